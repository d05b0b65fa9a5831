"""Trains the grid, and computes the closed form at its cells and at rates in between."""

import numpy as np

from repro.data.linear import load
from repro.papers.structured_dropout import linear, minimum
from repro.papers.structured_dropout.rank_collapse import Config
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress

# How many rates the theory's curves are drawn through.
CURVE_POINTS = 120


def run(config: Config, progress: Progress) -> Result:
    data = load(config.data)
    trained = minimum.train_grid(data, config, progress)
    curve = minimum.closed_forms(*linear.grid(_denser(config), data), data).table
    columns = ["block_size", "p", "closed_form", "closed_form_rank", "closed_form_effective_rank"]
    arrays = {
        "singular_values": trained.singular_values,
        "closed_form": trained.closed_form,
        **{f"curve_{name}": curve[name].to_numpy() for name in columns + ([] if config.dropout.p else ["retain"])},
    }
    collapse = trained.cells.effective_rank / trained.cells.closed_form_effective_rank - 1
    found = minimum.headline(trained) | {"median relative error of the effective rank": float(collapse.abs().median())}
    return Result(trained.cells, trained.curves, arrays, found)


def _denser(config: Config) -> Config:
    """The same grid, of one seed, at `CURVE_POINTS` rates from its smallest to its largest."""
    dropout = config.dropout
    rates = np.linspace(min(dropout.rates()), max(dropout.rates()), CURVE_POINTS).tolist()
    changes = {"p" if dropout.p else "retain": tuple(rates), "block_size": tuple(sorted(dropout.block_size))}
    return config.model_copy(update={"dropout": dropout.model_copy(update=changes), "seed": config.seed[:1]})
