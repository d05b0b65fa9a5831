"""Trains the grid at every width, once with p fixed and once with θ."""

from itertools import product

import numpy as np
import pandas as pd
import torch

from repro import theory
from repro.data.linear import load
from repro.papers.structured_dropout import minimum
from repro.papers.structured_dropout.wide_networks import FIXED, Config
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress


def run(config: Config, progress: Progress) -> Result:
    data = load(config.data)
    tables: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    spectra, closed = [], []
    target = theory.target_spectrum(data.Y, data.X).numpy()
    for growth, fixed in product(config.options.growth, FIXED):
        rates = {"p": None, "retain": (config.options.retain,)} if fixed == "retain" else {}
        model = config.model.model_copy(update={"width": growth * config.model.width})
        dropout = config.dropout.model_copy(update=rates)
        trained = minimum.train_grid(data, config.model_copy(update={"model": model, "dropout": dropout}), progress)
        table, first = trained.cells, sum(len(done) for done in tables)
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
