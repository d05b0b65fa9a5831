"""What is claimed of deep networks with dropout on their last hidden layer."""

import numpy as np
import pandas as pd

from repro.papers.expectation import stochastic_claim
from repro.pipeline.claims import Claim
from repro.pipeline.store import Record

LIGHT = 0.5
"""From this θ on the theory is asked to predict a network; the figures show where it stops to."""

COLLAPSED = 0.05
"""A singular value below this fraction of the largest of Y counts as collapsed."""


def _balanced_classes(record: Record) -> bool:
    return record.config["data"]["imbalance"] == 1


def _dropped(record: Record, lightest: float = 0.0) -> pd.DataFrame:
    """The cells with dropout of which there is a closed form."""
    cells = record.cells
    return cells[(cells.scheme != "none") & cells.penalty_weight.notna() & (cells.retain >= lightest)]


def _spectrum_error(record: Record) -> pd.Series:
    light = _dropped(record, LIGHT)
    return light.singular_value_error.groupby(light.seed).max() if _balanced_classes(record) else pd.Series(dtype=float)


def _tightness(record: Record) -> pd.Series:
    cells = _dropped(record)
    return cells.tightness.groupby(cells.seed).min()


def _balance(record: Record) -> pd.Series:
    cells = _dropped(record)
    return cells.imbalance.groupby(cells.seed).max()


def _bare_accuracy(record: Record) -> pd.Series:
    bare = record.cells[record.cells.scheme == "none"]
    if record.config["data"]["kind"] != "mnist5k" or not _balanced_classes(record):
        return pd.Series(dtype=float)
    return bare.test_accuracy.groupby(bare.seed).min()


def _ordering(record: Record) -> pd.Series:
    """Fraction of pairs of one noise and r, or of one θ, whose Σσ stand in the closed form's order."""
    arrays, found = record.arrays, {}
    for seed, cells in _dropped(record).groupby("seed"):
        first, second = np.triu_indices(len(cells), 1)
        scheme, size, retain, rows = (cells[c].to_numpy() for c in ("scheme", "block_size", "retain", "cell"))
        theory, measured = arrays["closed_form"][rows].sum(1), arrays["singular_values"][rows].sum(1)
        compared = (scheme[first] == scheme[second]) & (size[first] == size[second])
        compared |= retain[first] == retain[second]
        compared &= np.abs(theory[first] - theory[second]) > DISTINCT * np.maximum(theory[first], theory[second])
        right = np.sign(measured[first] - measured[second]) == np.sign(theory[first] - theory[second])
        if compared.any():
            found[seed] = float(right[compared].mean())
    return pd.Series(found, dtype=float)


def _collapse_order(record: Record) -> pd.Series:
    """Largest difference between the numbers of singular values that are left, measured and predicted."""
    if _balanced_classes(record):
        return pd.Series(dtype=float)
    arrays, cells = record.arrays, _dropped(record)
    floor = COLLAPSED * arrays["target"][0]
    left = [(arrays[name][cells.cell.to_numpy()] > floor).sum(1) for name in ("singular_values", "closed_form")]
    return pd.Series(np.abs(left[0] - left[1]), index=cells.index).groupby(cells.seed).max().astype(float)


DISTINCT = 0.05
"""Sums of singular values that theory puts closer than this fraction are not asked to stand in order."""

CLAIMS = (
    stochastic_claim(
        "stochastic_is_deterministic",
        "On the last hidden layer's features of every epoch, the expected loss is the data fit plus "
        "(1−θ)/θ Σ‖U_i g_i(X)‖².",
        "theorem on the last layer of deep networks, E6; paper section 4",
        resolution=0.02,
        what="epoch",
    ),
    Claim(
        id="predictions_follow_closed_form",
        statement="The singular values of a deep network's predictions are those of the closed form applied to Y.",
        source="E6; paper section 4",
        quantity=f"largest ‖σ(Ug(X)) − a‖ / ‖a‖ of the networks with θ ≥ {LIGHT:g}, balanced classes",
        high=0.03,
        because="rich features are an assumption, and training stops short of the limit: see where it breaks below",
        measure=_spectrum_error,
        scales=("cpu", "gpu"),
        figure="spectra",
        caveat="What is left of the data fit when training ends comes off the singular values; more epochs bring them "
        "closer.",
    ),
    Claim(
        id="assumption_is_tight",
        statement="The features are rich enough for the penalty to attain its lower bound (r/d)‖Ug(X)‖²_(r).",
        source="assumption on the feature class, E6; paper section 4",
        quantity="smallest (r/d)‖Ug(X)‖²_(r) / Σ‖U_i g_i(X)‖² at the end of training",
        low=0.95,
        high=1.0 + 1e-6,
        because="1 is the bound; without dropout the same ratio is about 0.75",
        measure=_tightness,
        scales=("cpu", "gpu"),
        figure="assumptions",
    ),
    Claim(
        id="balanced_blocks",
        statement="At the end of training all blocks of the last layer contribute equally.",
        source="proposition on balancedness, E6; paper sections 1 and 4",
        quantity="largest coefficient of variation of the block norms ‖U_i g_i(X)‖",
        high=0.1,
        because="without dropout it is about 0.4",
        measure=_balance,
        scales=("cpu", "gpu"),
        figure="assumptions",
    ),
    Claim(
        id="shrinkage_order",
        statement="Predictions shrink as p falls and as blocks get smaller, in the order that theory says.",
        source="E6; paper section 4",
        quantity="fraction of pairs of networks whose Σσ stand in the closed form's order",
        low=1.0,
        high=1.0,
        because=f"every pair, but those that theory puts within {100 * DISTINCT:g} % of each other",
        measure=_ordering,
        scales=("cpu", "gpu"),
        figure="shrinkage",
    ),
    Claim(
        id="one_after_another",
        statement="With classes of unequal size the singular values collapse one after another, small classes first.",
        source="E6; paper section 4",
        quantity=f"largest difference in the number of singular values above {100 * COLLAPSED:g} % of σ₁(Y), measured "
        "against predicted",
        high=1.0,
        because="a value at the threshold may fall on either side of it",
        measure=_collapse_order,
        scales=("cpu", "gpu"),
        figure="spectra",
        caveat="The directions of the smallest classes leave the origin slowest, and may still be there when training "
        "ends, at rates at which the minimum would have them.",
    ),
    Claim(
        id="network_learns",
        statement="The network without dropout is one worth measuring.",
        source="ours",
        quantity="test accuracy without dropout on the 5,000 digits",
        low=0.95,
        high=1.0,
        because="below it, the digits are not learned and the other rows say little",
        measure=_bare_accuracy,
        scales=("cpu", "gpu"),
    ),
)
