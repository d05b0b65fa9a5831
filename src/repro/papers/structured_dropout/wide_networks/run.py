"""Trains the grid at every width, once with p fixed and once with θ."""

from itertools import product

import numpy as np
import pandas as pd
import torch

from repro import theory
from repro.data.linear import load
from repro.papers.structured_dropout import linear, minimum
from repro.papers.structured_dropout.wide_networks import FIXED, Config
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress


def run(config: Config, progress: Progress) -> Result:
    data = load(config.data)
    tables: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    spectra, closed = [], []
    target = theory.target_spectrum(data.Y, data.X).numpy()
    points = list(product(config.options.growth, FIXED))
    configs = [_at(growth, fixed, config) for growth, fixed in points]
    grid = pd.concat(
        [linear.grid(at, data)[1].assign(fixed=fixed) for at, (_, fixed) in zip(configs, points, strict=True)]
    )
    watched = grid.assign(cell=range(len(grid))).to_dict("records")
    for at, (_, fixed) in zip(configs, points, strict=True):
        first = sum(len(done) for done in tables)
        with progress.watched(watched, first):
            trained = minimum.train_grid(data, at, progress)
        table = trained.cells
        penalty = (1 - table.retain) / table.retain * np.nansum(trained.block_norms**2, 1)
        norms = [
            float(theory.k_support_norm(torch.from_numpy(values).nan_to_num(0), min(size, len(values))))
            for values, size in zip(trained.singular_values, table.block_size, strict=True)
        ]
        shrinkage = [
            np.linalg.norm(target - values, axis=1) / np.linalg.norm(target)
            for values in (trained.singular_values, trained.closed_form)
        ]
        tables.append(
            table.assign(
                cell=table.cell + first,
                point=table.cell,
                fixed=fixed,
                penalty_weight=(penalty / np.square(norms)).where(~table.diverged),
                expected_weight=(1 - table.p) / table.p,
                shrinkage=shrinkage[0],
                expected_shrinkage=shrinkage[1],
            )
        )
        curves.append(trained.curves.assign(cell=trained.curves.cell + first))
        spectra.append(trained.singular_values)
        closed.append(trained.closed_form)
    cells = pd.concat(tables, ignore_index=True)
    found = {
        "largest relative error of the penalty's weight": float(
            (cells.penalty_weight / cells.expected_weight - 1).abs().max()
        ),
        "largest gap to the closed form": float(cells.relative_gap.max()),
        "diverged cells": float(cells.diverged.sum()),
    }
    arrays = {"singular_values": np.concatenate(spectra), "closed_form": np.concatenate(closed), "target": target}
    return Result(cells, pd.concat(curves, ignore_index=True), arrays, found)


def _at(growth: int, fixed: str, config: Config) -> Config:
    """The experiment at a width, with p or θ fixed."""
    rates = {"p": None, "retain": (config.options.retain,)} if fixed == "retain" else {}
    model = config.model.model_copy(update={"width": growth * config.model.width})
    return config.model_copy(update={"model": model, "dropout": config.dropout.model_copy(update=rates)})
