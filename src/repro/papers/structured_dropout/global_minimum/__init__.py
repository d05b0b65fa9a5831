"""E2: does training reach the closed-form global minimum, with balanced blocks, and how wide must the network be?

SGD on the stochastic objective and L-BFGS on the deterministic one, against the minimum over all widths and
factors, min_A ‖Y − A‖² + λ‖A‖²_(r) (spectral r-support norm, λ = (1−p)/p).
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from repro.papers.structured_dropout.linear_claims import MINIMUM, TRAINED, with_closed_form
from repro.papers.structured_dropout.settings import LinearConfig
from repro.pipeline.claims import Claim, NotMeasured
from repro.pipeline.settings import Count, Probability, Section
from repro.pipeline.store import Record


class WidthNeeded(Section):
    """The small problem on which L-BFGS measures the width that the closed form needs.

    `features` inputs and outputs, a target of rank `rank` from `samples` samples, at each block size every
    multiple of it in `widths` = [smallest, largest], best of `starts` random starts.
    """

    features: Count = 20
    rank: Count = 8
    samples: Count = 200
    p: Probability = 0.8
    block_sizes: Annotated[tuple[Count, ...], Field(strict=False)] = (1, 2, 4)
    widths: Annotated[tuple[Count, Count], Field(strict=False)] = (2, 24)
    starts: Count = 3

    def grid(self) -> list[tuple[int, int]]:
        """(block size, width) of every small problem."""
        smallest, largest = self.widths
        return [(r, d) for r in self.block_sizes for d in range(r, largest + 1, r) if d >= smallest]


class Options(Section):
    """`solve`: also minimise every cell's deterministic objective by L-BFGS. `width_needed`: null leaves it out."""

    solve: bool = True
    width_needed: WidthNeeded | None = WidthNeeded()


class Config(LinearConfig):
    options: Options


REACHED = 1e-10
"""A relative gap below this is rounding of L-BFGS in float64; the smallest real gaps are eight orders above."""


def _solved(column: str) -> Callable[[Record], pd.Series]:
    def measure(record: Record) -> pd.Series:
        cells = with_closed_form(record)
        if column not in cells:
            raise NotMeasured("options.solve=false")
        return cells[column].abs().groupby(cells.seed).max()

    return measure


def _solver_distance(record: Record) -> pd.Series:
    if "solver_objective" not in record.cells:
        raise NotMeasured("options.solve=false")
    cells = record.cells[record.cells.closed_form.isna() & record.cells.solver_objective.notna()]
    gap = (cells.objective / cells.solver_objective - 1).abs()
    return gap.groupby(cells.seed).max().where(~cells.diverged.groupby(cells.seed).any())


def _wrong_widths(record: Record) -> pd.Series:
    """How many widths meet the closed form against the derivation."""
    gap, width, derived = (record.arrays[f"width_needed_{name}"] for name in ("gap", "width", "derived"))
    return pd.Series([float(((np.abs(gap) < REACHED) != (width >= derived)).sum())], index=record.config["seed"][:1])


CLAIMS = (
    Claim(
        id="closed_form_is_the_minimum",
        statement="Minimised over factors, the deterministic objective is min_A ‖Y − A‖² + λ‖A‖²_(r), in closed form.",
        source="theorem on global minimisers, E2; paper section 1",
        quantity="largest relative gap between L-BFGS on the factors and the closed form, either way",
        high=REACHED,
        because="both are exact but for rounding in float64",
        measure=_solved("solver_gap"),
        figure="gap",
    ),
    Claim(
        id="induced_regularizer",
        statement="The regulariser that DropBlock induces on what the network computes is the squared spectral "
        "r-support norm.",
        source="theorem on the induced regulariser, E2; paper section 1",
        quantity="largest relative difference between the penalty of L-BFGS's factors and λ‖UVᵀX‖²_(r)",
        high=1e-5,
        because="near a minimum the factors are exact to the square root of the objective's rounding",
        measure=_solved("induced_error"),
        figure="balance",
    ),
    *MINIMUM,
    Claim(
        id="sgd_reaches_solver",
        statement="Without a closed form, too, training ends at the minimum of the deterministic objective: "
        "overlapping blocks and correlated noise.",
        source="theorem on general dropout distributions, E2 and E5; paper section 3",
        quantity="largest relative gap between SGD's final deterministic objective and the lowest that L-BFGS finds",
        high=1e-3,
        because="as for the noise with a closed form; L-BFGS, the best of three starts, stops within 1e-10",
        measure=_solver_distance,
        scales=TRAINED,
        bears=lambda config: not {"overlapping_dropblock", "gaussian"}.isdisjoint(config["dropout"]["scheme"]),
        figure="gap",
    ),
    Claim(
        id="width_needed",
        statement="The minimum over factors meets the closed form from exactly that width on at which balanced blocks "
        "can carry its minimiser.",
        source="ours, beyond the paper; paper section 1",
        quantity="widths of the small problem at which L-BFGS meets the closed form and the derivation says no, or the "
        "other way round",
        low=0.0,
        high=0.0,
        because="derived, with nothing to fit: the unsaturated part of the minimiser must be a sum of as many equal "
        "projections as there are blocks; below that width gaps are 1e-4 and more, from it on rounding. That the "
        "conditions, which are necessary, also suffice for r > 1 is what is measured",
        measure=_wrong_widths,
        bears=lambda config: config["options"]["width_needed"] is not None,
        figure="width_needed",
    ),
)

CAPTIONS = {
    "gap": "The deterministic objective above its closed-form minimum, along SGD: it falls to SGD's own noise.",
    "singular_values": "Singular values of the trained network (markers) on the closed form (lines): the lower p, the "
    "fewer are left; the larger r, the more the leading ones are spared.",
    "balance": "How unequal the blocks' contributions are: training evens them out, as a global minimum must.",
    "width_needed": "How far the best of several L-BFGS runs stays above the closed form, by width: a gap while the "
    "network is too narrow, rounding (grey) from the derived width (dotted) on.",
}
"""What to look for in each figure."""
