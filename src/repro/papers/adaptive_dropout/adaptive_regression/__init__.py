"""Do adaptive dropout's iterations end where its penalty says, and which strategies give exact zeros?

Sparse linear regression with more features than samples: reweighted ridge regressions and SGD under real masks whose
retain probabilities follow the weights, for L1, LogSum and MCP, beside proximal gradient descent on the same penalised
objective, from several starts; ridge and standout, whose α(0) > 0, as controls that leave no zeros.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import pandas as pd
from pydantic import Field, model_validator

from repro.data.sparse_regression import Settings as SparseRegression
from repro.papers.adaptive_dropout import settings
from repro.pipeline.claims import Claim
from repro.pipeline.settings import Count, Found, OneOrMany, Positive, Section
from repro.pipeline.store import Record
from repro.training.reweighting import Settings as Reweighting

SPARSE = ("L1", "LogSum", "MCP")
CONTROLS = ("ridge", "Standout")
MASKED = ("bernoulli", "gaussian")
KEPT = 0.5
"""A weight of at least this retain probability is in the support: kept more often than dropped."""
ZERO = 0.05
"""The paper's: below this retain probability a weight counts as zero."""
ALLOWED = 1e-8
"""The largest KKT residual that counts as none; gradients are of size 1."""


class Options(Section):
    """`strengths`: λΩ'(0⁺), the largest gradient of a weight that stays zero; for the controls λ itself.

    `mask_strengths`: those of them at which is trained under masks too. `starts`: besides that of ridge, random ones.
    `epsilon` of LogSum, `knee` of MCP (the w from where on it is flat), `slope` of standout.
    """

    strengths: OneOrMany[Positive]
    mask_strengths: OneOrMany[Positive]
    starts: Annotated[int, Field(ge=0)]
    epsilon: Positive
    knee: Positive
    slope: Positive
    peer_iterations: Count


class Config(settings.Config):
    UNUSED: ClassVar[Mapping[str, str]] = {"model": settings.NO_MODEL, "dropout": settings.NO_NOISE}

    data: Found[SparseRegression]
    training: Found[Reweighting]
    options: Options

    @model_validator(mode="after")
    def _masks_have_a_reference(self) -> "Config":
        if unknown := sorted(set(self.options.mask_strengths) - set(self.options.strengths)):
            allowed = ", ".join(f"{one:g}" for one in self.options.strengths)
            raise ValueError(f"options.mask_strengths={unknown[0]:g}: must be of options.strengths, {allowed}")
        return self

    @property
    def networks(self) -> int:
        options = self.options
        one = len(SPARSE) * (1 + options.starts) * 2 + len(CONTROLS)
        masked = (len(SPARSE) + len(CONTROLS)) * len(MASKED) * len(options.mask_strengths)
        return len(self.seed) * (one * len(options.strengths) + masked)


# ---------------------------------------------------------------------- claims

Rows = Callable[[pd.DataFrame], "pd.Series[bool]"]


def _of(record: Record, rows: Rows, column: str, how: str = "max") -> pd.Series:
    chosen = record.cells[rows(record.cells)]
    return chosen.groupby("seed")[column].agg(how).astype(float)


def _largest(column: str, rows: Rows) -> Callable[[Record], pd.Series]:
    return lambda record: _of(record, rows, column)


def _reweighted(cells: pd.DataFrame) -> "pd.Series[bool]":
    return (cells.method == "reweighting") & cells.penalty.isin(SPARSE)


def _masked(cells: pd.DataFrame) -> "pd.Series[bool]":
    return cells.method.isin(MASKED) & cells.penalty.isin(SPARSE)


def _middle(cells: pd.DataFrame) -> "pd.Series[bool]":
    """Strengths well above the noise's gradients and well below what drowns the least true weight of 1."""
    return cells.strength.between(0.1, 0.4)


SOURCE = "LeJeune, Javadi, Baraniuk (2021), duality theorem"

CLAIMS = (
    Claim(
        id="reweighting_is_stationary",
        statement="Adaptive dropout in expectation ends at a stationary point of the penalised objective.",
        source=SOURCE,
        quantity="largest KKT residual of L1, LogSum and MCP, all strengths and starts (gradients are of size 1)",
        high=ALLOWED,
        because="iterated until no weight moves by 1e-12; a penalty 1 % off leaves 1e-3",
        measure=_largest("residual", _reweighted),
        figure="path",
    ),
    Claim(
        id="masks_find_the_support",
        statement="SGD under real masks, Bernoulli or Gaussian, keeps the weights that LogSum and MCP keep.",
        source=SOURCE,
        quantity="weights with a retain probability of at least ½ after SGD under masks that are zero in the "
        "penalty's own solution, or the other way round",
        high=0.0,
        low=0.0,
        because="support is support",
        measure=_largest("support_difference", lambda cells: _masked(cells) & (cells.penalty != "L1")),
        scales=("cpu", "gpu"),
        figure="masks",
    ),
    Claim(
        id="masks_keep_what_l1_keeps",
        statement="SGD under real masks keeps the weights that L1's solution keeps more often than it drops them.",
        source=SOURCE,
        quantity="weights with a retain probability of at least ½ after SGD under masks, or in L1's solution, but not "
        "in both",
        high=0.0,
        low=0.0,
        because="as above, for weights of at least λ",
        measure=_largest("kept_difference", lambda cells: _masked(cells) & (cells.penalty == "L1")),
        scales=("cpu", "gpu"),
        figure="masks",
    ),
    Claim(
        id="masks_find_l1s_support",
        statement="SGD under real masks keeps every weight that L1 keeps.",
        source=SOURCE,
        quantity="the same as of LogSum and MCP, for L1",
        high=0.0,
        low=0.0,
        because="support is support",
        measure=_largest("support_difference", lambda cells: _masked(cells) & (cells.penalty == "L1")),
        scales=("cpu", "gpu"),
        figure="masks",
        caveat="L1's solution has one to three weights of a hundredth of the others' size. Their masks keep them once "
        "in a hundred draws, SGD's noise is larger than they are, and 0 is absorbing: they are lost, at a distance "
        "that `masks_find_the_point` allows.",
        departs=("adaptive_regression",),
    ),
    Claim(
        id="masks_find_the_point",
        statement="SGD under real masks ends near that stationary point.",
        source=SOURCE,
        quantity="largest ‖w − w'‖/‖w'‖ between SGD under masks and the penalty's own solution",
        high=0.05,
        because="SGD's noise at its last steps; masks of variance 1 − α in place of (1−α)/α put L1 0.3 to 0.4 off; set "
        "when a prototype had given 0.02",
        measure=_largest("distance", _masked),
        scales=("cpu", "gpu"),
        figure="masks",
    ),
    Claim(
        id="peer_is_not_below",
        statement="Where the problem is convex reweighting reaches the minimum.",
        source="ours; proximal gradient descent, which knows neither η̂ nor α",
        quantity="objective of reweighting, relative excess over proximal gradient descent, L1",
        high=1e-6,
        because="both converge; excess beyond rounding would be a worse minimum",
        measure=_largest("excess", lambda cells: _reweighted(cells) & (cells.penalty == "L1")),
        figure="path",
    ),
    Claim(
        id="starts_agree",
        statement="LogSum and MCP end at one point from several starts.",
        source="ours; neither penalty is convex",
        quantity="largest ‖w − w'‖/‖w'‖ between the ends of reweighting from random starts and from that of ridge, "
        "strengths 0.1 to 0.4",
        high=1e-6,
        because="convergence; another stationary point has other weights",
        measure=_largest("moved", lambda cells: _reweighted(cells) & (cells.penalty != "L1") & _middle(cells)),
        scales=("cpu", "gpu"),
        figure="path",
    ),
    Claim(
        id="concave_penalties_recover",
        statement="LogSum and MCP recover the true support exactly.",
        source="LeJeune, Javadi, Baraniuk (2021), section 3, as sparsity-promoting penalties",
        quantity="weights that are zero in the truth and not in the solution, or the other way round, strengths 0.1 to "
        "0.4",
        low=0.0,
        high=0.0,
        because="the noise's gradients are below 0.1, the true weights above 1",
        measure=_largest("wrong", lambda cells: _reweighted(cells) & (cells.penalty != "L1") & _middle(cells)),
        scales=("cpu", "gpu"),
        figure="support",
    ),
    Claim(
        id="l1_recovers",
        statement="L1 recovers the true support exactly.",
        source="as above",
        quantity="the same for L1",
        low=0.0,
        high=0.0,
        because="as above",
        measure=_largest("wrong", lambda cells: _reweighted(cells) & (cells.penalty == "L1") & _middle(cells)),
        scales=("cpu", "gpu"),
        figure="support",
        caveat="With 100 samples for 10 of 200 weights L1 is at the edge of exact recovery (2k log(d−k) = 105): it "
        "finds all true weights, and one to three more of a hundredth of their size. Adaptive dropout ends at that "
        "solution; it is the penalty that does not recover.",
        departs=("adaptive_regression",),
    ),
    Claim(
        id="l1_misses_nothing",
        statement="L1 finds every true weight.",
        source="as above",
        quantity="weights that are zero in the solution and not in the truth, strengths 0.1 to 0.4",
        low=0.0,
        high=0.0,
        because="true weights are above 1",
        measure=_largest("missed", lambda cells: _reweighted(cells) & (cells.penalty == "L1") & _middle(cells)),
        scales=("cpu", "gpu"),
        figure="support",
    ),
    Claim(
        id="controls_leave_no_zeros",
        statement="Strategies with α(0) > 0, ridge and standout, give no zeros: the control.",
        source="LeJeune, Javadi, Baraniuk (2021), section 3",
        quantity="fraction of weights that are exactly zero, or that end with a retain probability below 0.05",
        low=0.0,
        high=0.0,
        because="the slope of their penalties at 0 is 0",
        measure=_largest("zeros", lambda cells: cells.penalty.isin(CONTROLS)),
        figure="support",
    ),
    Claim(
        id="sparse_penalties_give_zeros",
        statement="Strategies with α(0) = 0 and a penalty of positive slope at 0 give zeros, under masks too.",
        source="LeJeune, Javadi, Baraniuk (2021), section 3",
        quantity="least fraction of weights with a retain probability below 0.05",
        low=0.8,
        because="190 of 200 true weights are zero; L1 keeps more than 10",
        measure=lambda record: _of(record, lambda cells: cells.penalty.isin(SPARSE) & _middle(cells), "zeros", "min"),
        scales=("cpu", "gpu"),
        figure="support",
    ),
)

CAPTIONS = {
    "path": "Largest KKT residual of all starts (left; dotted, what the claim allows), and the error of the weights "
    "(right), against the strength of the penalty: reweighting (lines) and proximal gradient descent (markers, mean ± "
    "one standard deviation over seeds) on the same objective. Ridge and standout have no proximal map here.",
    "support": "Weights that are left, in the penalty's own solution (lines) and after SGD under masks (markers: "
    "retain probability of at least 0.05); dotted, how many there are in truth. Ridge and standout keep all of them.",
    "masks": "Weights after SGD under masks on those of the penalty's own solution, all seeds and strengths: on the "
    "diagonal. Weights below 0.001 in both are left out.",
}
"""What to look for in each figure."""
