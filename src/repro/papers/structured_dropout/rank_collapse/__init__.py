"""E4: how dropout and its block size lower the rank of what a linear network learns.

The spectrum and the effective rank of the trained UVᵀX against p and r, on top of the closed form: singular values
are shrunk by the prox of the squared r-support norm with weight λ = (1−p)/p.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from repro.papers.structured_dropout.linear_claims import BALANCE, GAP, MINIMUM, SPECTRUM, TRAINED, with_closed_form
from repro.papers.structured_dropout.settings import LinearConfig
from repro.pipeline.claims import Claim, NotMeasured
from repro.pipeline.settings import Count, OneOrMany, Section
from repro.pipeline.store import Record

DISTINCT = 0.02
"""Effective ranks that theory puts closer than this fraction are not asked to stand in order."""

# What the price in steps is measured by: how it is called, and what the claims allow.
ERRORS = {
    "relative_gap": ("relative gap", GAP),
    "singular_value_error": (r"$\|\sigma - a\|\ /\ \|a\|$", SPECTRUM),
    "imbalance": (r"std $/$ mean of $\|U_iV_i^\top X\|_F$", BALANCE),
}


class Price(Section):
    """What fewer steps would leave, and more masks a step save: trainings of the first seed that are as long as each of
    `steps`, with each of `masks_per_step`."""

    steps: OneOrMany[Count]
    masks_per_step: OneOrMany[Count]


class Options(Section):
    """`spectra`: at most so many values of p get a panel with their singular values."""

    spectra: Count = 3
    price: Price | None = None


class Config(LinearConfig):
    options: Options

    @property
    def drawn(self) -> tuple[int, int]:
        noises, rates = super().drawn
        return 1 + min(self.options.spectra, rates), noises


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
        apart = np.abs(theory[first] - theory[second]) > DISTINCT * np.maximum(theory[first], theory[second])
        kinds = [apart & (rows[column][first] == rows[column][second]) for column in ("p", "block_size")]
        measured = rows["effective_rank"][first] - rows["effective_rank"][second]
        right = np.sign(measured) == np.sign(theory[first] - theory[second])
        if not all(kind.any() for kind in kinds):
            raise NotMeasured("no pair of one p, or none of one r")
        found[seed] = float(right[kinds[0] | kinds[1]].mean())
    return pd.Series(found)


def play(record: Record) -> str:
    """The closed form to play with on the report's page, once."""
    if record.experiment != "rank_collapse" or "target" not in record.arrays:
        return ""
    target = record.arrays["target"]
    page = Path(__file__).with_name("play.html").read_text(encoding="utf-8")
    return page.replace("$values", " ".join(f"{value:.4g}" for value in target[target > 1e-9 * target[0]]))


CLAIMS = (
    *MINIMUM,
    Claim(
        id="effective_rank",
        statement="Dropout lowers the rank of what a network learns, by as much as the closed form says.",
        source="theorem on global minimisers, E4; paper section 1",
        quantity="median over the grid of the relative error of the effective rank",
        high=0.03,
        because="a weight of the penalty wrong by 10 % changes the median by 4 %, the next block size by 26 % and "
        "more; small singular values that SGD has not quite killed count in an effective rank",
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
    "price": "What is left of each error at the end of trainings of so many steps, largest over the grid: with the one "
    "mask a step of textbook dropout, and with more. Left, the objective above the closed form. Grey, "
    "what the claims allow.",
}
"""What to look for in each figure."""
