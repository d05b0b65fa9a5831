"""Trains the grid, and computes the closed form at its cells and at rates in between."""

import time
from itertools import product

import numpy as np
import pandas as pd

from repro import theory
from repro.data.linear import LinearData, load
from repro.papers.structured_dropout import linear, minimum
from repro.papers.structured_dropout.rank_collapse import ERRORS, Config, Price
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress

# How many rates the theory's curves are drawn through.
CURVE_POINTS = 120


def run(config: Config, progress: Progress) -> Result:
    data = load(config.data)
    with progress.watched(linear.grid(config, data)[1].to_dict("records")):
        trained = minimum.train_grid(data, config, progress)
    curve = minimum.closed_forms(*linear.grid(_denser(config), data), data).table
    columns = ["block_size", "p", "closed_form", "closed_form_rank", "closed_form_effective_rank"]
    arrays = {
        "singular_values": trained.singular_values,
        "closed_form": trained.closed_form,
        "target": theory.target_spectrum(data.Y, data.X).numpy(),
        **{f"curve_{name}": curve[name].to_numpy() for name in columns + ([] if config.dropout.p else ["retain"])},
    }
    if config.options.price:
        price = _price(data, config, progress)
        arrays |= {f"price_{name}": price[name].to_numpy() for name in price}
    collapse = trained.cells.effective_rank / trained.cells.closed_form_effective_rank - 1
    found = minimum.headline(trained) | {"median relative error of the effective rank": float(collapse.abs().median())}
    return Result(trained.cells, trained.curves, arrays, found)


def rest_seconds(config: Config) -> float:
    """About what the shorter trainings take, from the shortest."""
    if not (price := config.options.price):
        return 0.0
    shortest = Price(steps=(min(price.steps),), masks_per_step=price.masks_per_step)
    one = config.model_copy(update={"options": config.options.model_copy(update={"price": shortest})})
    started = time.monotonic()
    _price(load(config.data), one, Progress("", quiet=True))
    return (time.monotonic() - started) * sum(price.steps) / min(price.steps)


def _price(data: LinearData, config: Config, progress: Progress) -> pd.DataFrame:
    """The largest of each of `ERRORS` that trainings of other lengths, with other numbers of masks, end with."""
    assert config.options.price
    rows = []
    for steps, masks in product(config.options.price.steps, config.options.price.masks_per_step):
        training = config.training.model_copy(update={"steps": steps, "masks_per_step": masks})
        other = config.model_copy(update={"training": training, "seed": config.seed[:1]})
        cells = minimum.train_grid(data, other, progress).cells
        rows.append({"steps": steps, "masks": masks, **cells[list(ERRORS)].abs().max(skipna=False)})
    return pd.DataFrame(rows)


def _denser(config: Config) -> Config:
    """The same grid, of one seed, at `CURVE_POINTS` rates from its smallest to its largest."""
    dropout = config.dropout
    rates = np.linspace(min(dropout.rates()), max(dropout.rates()), CURVE_POINTS).tolist()
    changes = {"p" if dropout.p else "retain": tuple(rates), "block_size": tuple(sorted(dropout.block_size))}
    return config.model_copy(update={"dropout": dropout.model_copy(update=changes), "seed": config.seed[:1]})
