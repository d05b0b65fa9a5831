"""E4: how dropout and its block size lower the rank of what a linear network learns.

The spectrum and the effective rank of the trained UVᵀX against p and r, on top of the closed form: singular values
are shrunk by the prox of the squared r-support norm with weight λ = (1−p)/p.
"""

import numpy as np
import pandas as pd

from repro.papers.structured_dropout.linear_claims import MINIMUM, TRAINED, with_closed_form
from repro.papers.structured_dropout.settings import LinearConfig
from repro.pipeline.claims import Claim
from repro.pipeline.settings import Count, Section
from repro.pipeline.store import Record

DISTINCT = 0.02
"""Effective ranks that theory puts closer than this fraction are not asked to stand in order."""


class Options(Section):
    """`spectra`: at most so many values of p get a panel with their singular values."""

    spectra: Count = 3


class Config(LinearConfig):
    options: Options


def _rank_error(record: Record) -> pd.Series:
    """Against exp(entropy) of the closed form's spectrum written out anew: a mistake in the theory's own measure of
    rank, which the measured and the expected value share, would not show in their ratio."""
    cells = with_closed_form(record)
    spectra = record.arrays["closed_form"][cells.cell]
    shares = spectra / spectra.sum(1, keepdims=True)
    expected = np.exp(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(1))
    return (cells.effective_rank / expected - 1).abs().groupby(cells.seed).median()


def _ordering(record: Record) -> pd.Series:
    """Fraction of the pairs of cells, of one seed and one p or one r, whose effective ranks stand in theory's order."""
    found = {}
    for seed, cells in with_closed_form(record).groupby("seed"):
        first, second = np.triu_indices(len(cells), 1)
        rows = {column: cells[column].to_numpy() for column in cells}
        theory = rows["closed_form_effective_rank"]
        compared = (rows["p"][first] == rows["p"][second]) | (rows["block_size"][first] == rows["block_size"][second])
        compared &= np.abs(theory[first] - theory[second]) > DISTINCT * np.maximum(theory[first], theory[second])
        measured = rows["effective_rank"][first] - rows["effective_rank"][second]
        right = np.sign(measured) == np.sign(theory[first] - theory[second])
        if compared.any():
            found[seed] = float(right[compared].mean())
    return pd.Series(found, dtype=float)


CLAIMS = (
    *MINIMUM,
    Claim(
        id="effective_rank",
        statement="Dropout lowers the rank of what a network learns, by as much as the closed form says.",
        source="theorem on global minimisers, E4; paper section 1",
        quantity="median over the grid of the relative error of the effective rank",
        high=0.03,
        because="small singular values that SGD has not quite killed count in an effective rank",
        measure=_rank_error,
        scales=TRAINED,
        figure="collapse",
    ),
    Claim(
        id="rank_falls",
        statement="Rank falls with 1 − p and with smaller blocks, exactly where theory says.",
        source="E4; paper section 1",
        quantity="fraction of pairs of networks whose effective ranks stand in the closed form's order",
        low=1.0,
        high=1.0,
        because=f"every pair, but those that theory puts within {100 * DISTINCT:g} % of each other",
        measure=_ordering,
        scales=TRAINED,
        figure="collapse",
    ),
)

CAPTIONS = {
    "collapse": "Effective rank against p (left) and spectra at some p: markers (SGD, mean ± one standard deviation "
    "over seeds) on lines (closed form). Smaller p and smaller blocks leave fewer directions.",
    "objective": "The objective that training reaches (markers) on the closed-form minimum (lines).",
}
"""What to look for in each figure."""
