"""What the claims on deep networks measure in a record."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from repro.papers.structured_dropout.last_layer_dropout.rivals import RIVALS, distances
from repro.pipeline.claims import NotMeasured
from repro.pipeline.store import Record

COLLAPSED = 0.05
"""A singular value below this fraction of the largest of Y counts as collapsed."""

ORIGIN = 0.1
"""A singular value below this fraction of its closed form has stayed at the origin."""

DISTINCT = 0.05
"""Sums of singular values that theory puts closer than this fraction are not asked to stand in order."""

BLUNT = 0.01
"""Of the objective: a standard error above it could not tell a formula from another that is 3 % off."""


def trained_on_squares(record: Record) -> pd.DataFrame:
    if (loss := record.config["training"]["loss"]) != "squared_error":
        raise NotMeasured(f"training.loss={loss}: the closed form is the squared error's")
    return record.cells


def dropped(record: Record) -> pd.DataFrame:
    """The cells with dropout of which there is a closed form, trained for the full time."""
    cells = trained_on_squares(record)
    known = cells[(cells.scheme != "none") & cells.penalty_weight.notna() & (cells.epochs == cells.epochs.max())]
    if known.empty:
        raise NotMeasured("no closed form for this noise")
    return known


def nearness(asked: tuple[str, ...], times: int) -> Callable[[Record], pd.Series]:
    """The largest of own distance / distance from a rival, of those of `asked` that lie `times` what a network may be
    off, or more, from the closed form."""
    chosen = [RIVALS.index(name) for name in asked]

    def measure(record: Record) -> pd.Series:
        cells = dropped(record)
        found = distances(cells, record.arrays)
        compared = found.apart[:, chosen] >= times * found.off
        if not compared.any():
            raise NotMeasured(f"no rival lies {times} × {found.off:.3f} or more from the closed form")
        with np.errstate(divide="ignore", invalid="ignore"):  # a spectrum that is the rival's
            worst = np.where(compared, found.own[:, None] / found.rivals[:, chosen], 0.0).max(1)
        return pd.Series(worst, index=cells.index).groupby(cells.seed).max()

    return measure


def error(record: Record) -> pd.Series:
    cells = dropped(record)
    found = distances(cells, record.arrays)
    return pd.Series(found.own / (3 * found.off), index=cells.index).groupby(cells.seed).max()


def forward(record: Record) -> pd.Series:
    if "forward" not in record.cells:
        raise NotMeasured("no masks in the forward pass")
    cells = record.cells.dropna(subset="forward")
    distance = (cells.forward - cells.deterministic).abs() / cells.forward_error
    return distance.where(cells.forward_error <= BLUNT * cells.deterministic, np.inf).groupby(cells.seed).max()


def of_cells(column: str, worst: str) -> Callable[[Record], pd.Series]:
    return lambda record: dropped(record).groupby("seed")[column].agg(worst)


def bare_fit(record: Record) -> pd.Series:
    cells = trained_on_squares(record)
    bare = cells[cells.scheme == "none"]
    return bare.groupby("seed").data_fit.max()


def ordering(record: Record) -> pd.Series:
    """Fraction of pairs of one noise and r whose Σσ stand in the closed form's order."""
    arrays, found = record.arrays, {}
    for seed, cells in dropped(record).groupby("seed"):
        first, second = np.triu_indices(len(cells), 1)
        rows, noise = cells.cell.to_numpy(), cells[["scheme", "block_size"]].to_numpy()
        theory, measured = arrays["closed_form"][rows].sum(1), arrays["singular_values"][rows].sum(1)
        compared = (noise[first] == noise[second]).all(1)
        compared &= np.abs(theory[first] - theory[second]) > DISTINCT * np.maximum(theory[first], theory[second])
        right = np.sign(measured[first] - measured[second]) == np.sign(theory[first] - theory[second])
        if compared.any():
            found[seed] = float(right[compared].mean())
    if not found:
        raise NotMeasured("no pair of networks of one r that theory puts in an order")
    return pd.Series(found, dtype=float)


def collapse_order(record: Record) -> pd.Series:
    """Largest difference between the numbers of singular values that are left, measured and predicted."""
    arrays, cells = record.arrays, dropped(record)
    floor = COLLAPSED * arrays["target"][0]
    left = [(arrays[name][cells.cell.to_numpy()] > floor).sum(1) for name in ("singular_values", "closed_form")]
    return pd.Series(np.abs(left[0] - left[1]), index=cells.index).groupby(cells.seed).max().astype(float)


def dead(record: Record) -> pd.Series:
    """The most directions of one network that have stayed at the origin."""
    arrays, cells = record.arrays, dropped(record)
    measured, closed = (arrays[name][cells.cell.to_numpy()] for name in ("singular_values", "closed_form"))
    dead = (closed > COLLAPSED * closed[:, :1]) & ~(measured >= ORIGIN * closed)
    return pd.Series(dead.sum(1), index=cells.index).groupby(cells.seed).max().astype(float)
