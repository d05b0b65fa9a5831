"""When does a growing penalty remove a group?

Incremental regularization with scores that are given: its increments and removals beside their oracle; mean ranks
beside ranks of the moment where scores waver; groups that recover where scores change. And what a growing penalty does
to weights: on quadratics, by gradient descent, and on the way to their removal.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

import pandas as pd
from pydantic import model_validator

from repro.papers.incremental_regularization import settings
from repro.pipeline.claims import Claim
from repro.pipeline.settings import Count, Found, OneOrMany, Positive, Probability, Section
from repro.pipeline.store import Record
from repro.training.none import Settings as NoTraining


class Options(Section):
    """`ratios`: R of static rankings; `ratio`: of the other ones. `step`, `ceiling`, `u`: A, T and u of the increment.
    `noise`: standard deviation of scores that waver about means in (0, 1]. `changed`: groups whose scores rise.
    `updates`: at most so many. `penalties`: δλ on quadratics of `weights` weights."""

    groups: Count
    ratios: OneOrMany[Probability]
    ratio: Probability
    step: Positive
    ceiling: Positive
    u: Probability
    noise: Positive
    changed: Count
    updates: Count
    penalties: OneOrMany[Positive]
    weights: Count


class Config(settings.Config):
    UNUSED: ClassVar[Mapping[str, str]] = {
        "data": "scores and quadratics are drawn",
        "model": "scores and quadratics are drawn",
        "dropout": settings.NO_NOISE,
    }

    training: Found[NoTraining]
    options: Options

    @model_validator(mode="after")
    def _groups_are_left(self) -> "Config":
        options = self.options
        for name, ratios in (("ratios", options.ratios), ("ratio", [options.ratio])):
            if (most := max(ratios)) * options.groups > options.groups - 1 + 1e-9:
                raise ValueError(
                    f"options.{name}={most}: removes all options.groups={options.groups}; one at least must be left"
                )
        if options.changed > (most_changed := int((1 - options.ratio) * options.groups)):
            raise ValueError(
                f"options.changed={options.changed}: must be at most {most_changed}, the groups to be kept"
            )
        if options.weights < 2:
            raise ValueError(f"options.weights={options.weights}: must be at least 2")
        return self


STATIC, MEAN, MOMENT, CHANGING, CLIPPED = SCENARIOS = (
    "static scores",
    "noise, mean ranks",
    "noise, ranks of the moment",
    "scores change",
    "they change, no recovery",
)
REMOVED, RECOVERED, KEPT = range(3)
"""What became of a group. Recovered: its λ was a tenth of the ceiling or more, and fell to less than half its peak."""

# ---------------------------------------------------------------------- claims

Measure = Callable[[Record], pd.Series]


def _rows(record: Record, *scenarios: str) -> pd.DataFrame:
    return record.cells[record.cells.scenario.isin(scenarios)]


def _worst(column: str, *scenarios: str) -> Measure:
    return lambda record: _rows(record, *scenarios or SCENARIOS)[column].groupby(record.cells.seed).max()


def _of(column: str, scenario: str) -> Measure:
    return lambda record: _rows(record, scenario).set_index("seed")[column]


def _missed_more(record: Record) -> pd.Series:
    return _of("missed_share", MOMENT)(record) - _of("missed_share", MEAN)(record)


def _off_target(record: Record) -> pd.Series:
    rows = record.cells[record.cells.scenario.notna()]
    return (rows.removed - rows.target).abs().where(rows.reached).groupby(rows.seed).max()


def _rise(column: str) -> Measure:
    return lambda record: pd.Series(
        record.arrays[column][:, -1] / record.arrays[column][:, 0], index=record.config["seed"]
    )


SOURCE = "Wang, Zhang, Wang, Hu (2019)"
GROWING = "Wang, Qin, Zhang, Fu (2021), section 3.2"

CLAIMS = (
    Claim(
        id="increment_values",
        statement="A penalty gains A at rank 0, uA at the turn and nothing at the threshold.",
        source=f"{SOURCE}, increment",
        quantity="largest distance of the three from A, uA and 0, of A",
        high=1e-9,
        because="rounding alone, in float64",
        measure=_worst("increment_error"),
        figure="increment",
    ),
    Claim(
        id="increment_symmetric",
        statement="The increment is point-symmetric about its turn.",
        source=f"{SOURCE}, increment",
        quantity="largest distance of Δ(N₁−x) + Δ(N₁+x) from 2uA, of A",
        high=1e-9,
        because="rounding alone, in float64",
        measure=_worst("symmetry_error"),
        figure="increment",
    ),
    Claim(
        id="removal_times",
        statement="With a static ranking removal times follow from the increment alone.",
        source=f"derived from {SOURCE}",
        quantity="largest distance of a removal from its closed time, in updates",
        low=0.0,
        high=0.0,
        because="both count whole updates",
        measure=_worst("time_error", STATIC),
        figure="times",
    ),
    Claim(
        id="first_removal",
        statement="The first group goes after T/A updates.",
        source=f"derived from {SOURCE}",
        quantity="distance of the first removal from ⌈T/A⌉, in updates",
        low=0.0,
        high=0.0,
        because="both count whole updates",
        measure=_worst("first_error", STATIC),
        figure="times",
    ),
    Claim(
        id="groups_removed",
        statement="A layer stops at its target: ⌈R n⌉ groups go, whatever the scores do.",
        source=f"{SOURCE}, algorithm",
        quantity="largest distance of the groups removed from ⌈R n⌉, over rankings that reach it",
        low=0.0,
        high=0.0,
        because="a count",
        measure=_off_target,
        figure="paths",
    ),
    Claim(
        id="mean_ranks",
        statement="Where scores waver, mean ranks find the lowest groups.",
        source=f"{SOURCE}, ranks averaged over iterations",
        quantity="share of the lowest groups that are still there",
        high=0.1,
        because="two of twenty, whose mean scores differ from the next ones' by a tenth of the noise",
        measure=_of("missed_share", MEAN),
        figure="paths",
    ),
    Claim(
        id="ranks_of_the_moment",
        statement="Ranks of the moment do not: they rather leave groups alone than remove wrong ones.",
        source="ours; the paper's reason for the mean is that ranks waver",
        quantity="share of the lowest groups that are still there: ranks of the moment less mean ranks",
        low=0.1,
        ideal=0.5,
        because="two of twenty, which mean ranks may miss themselves",
        measure=_missed_more,
        figure="paths",
    ),
    Claim(
        id="groups_recover",
        statement="A group whose score rises again loses its penalty and stays.",
        source=f"{SOURCE}, increments may be negative",
        quantity="groups that recover, of all whose scores rise",
        low=0.5,
        ideal=1.0,
        because="most of them; one whose mean rank rises too late may go before",
        measure=_of("recovered_share", CHANGING),
        figure="paths",
    ),
    Claim(
        id="none_recovers_clipped",
        statement="Where increments are never negative none does: the control.",
        source="ours",
        quantity="groups that recover with Δλ clipped at 0",
        low=0.0,
        high=0.0,
        because="a count",
        measure=_of("recovered_share", CLIPPED),
        figure="paths",
    ),
    Claim(
        id="shrinkage_law",
        statement="On a quadratic of diagonal Hessian a penalty δλ leaves 1/(1 + δλ/h) of a weight: the larger its "
        "curvature the more.",
        source=GROWING,
        quantity="largest distance of what gradient descent leaves from the law",
        high=1e-6,
        because="descent ends within 1e-8 of the minimum",
        measure=_worst("law_error"),
        figure="shrinkage",
    ),
    Claim(
        id="general_minimum",
        statement="On any quadratic the minimum moves to (H + δλI)⁻¹Hw*.",
        source=GROWING,
        quantity="largest distance of descent from it, of the largest weight",
        high=1e-6,
        because="as above",
        measure=_worst("minimum_error"),
        figure="shrinkage",
    ),
    Claim(
        id="law_needs_diagonal",
        statement="The law of single weights is one of diagonal Hessians: the control.",
        source="ours",
        quantity="largest distance of what descent leaves from the law at H's diagonal, H rotated at random",
        low=0.1,
        ideal=1.0,
        because="1e5 times the law's own tolerance",
        measure=_worst("rotated_error"),
        figure="shrinkage",
    ),
    Claim(
        id="dispersion_rises",
        statement="Under a growing penalty the groups' L1 norms part: their standard deviation over their mean rises.",
        source=f"{GROWING} and figure",
        quantity="std/mean at the largest δλ, of that without a penalty",
        low=1.1,
        ideal=2.0,
        because="a tenth more, which groups of one curvature do not come near",
        measure=_rise("dispersion"),
        figure="shrinkage",
    ),
    Claim(
        id="equal_curvature",
        statement="Where all curvatures are equal it does not: the control.",
        source="ours",
        quantity="as above",
        low=1 - 1e-6,
        high=1 + 1e-6,
        because="descent ends within 1e-8 of the minimum",
        measure=_rise("dispersion_equal"),
        figure="shrinkage",
    ),
    Claim(
        id="gentleness",
        statement="Before its removal a group's weights shrink by exp(−E), E = η/(1−β) T²/(2A).",
        source="ours",
        quantity="what descent with momentum shrinks them by, −ln of it over E",
        low=0.9,
        high=1.1,
        because="momentum lags by 1/(1−β) of the T/A updates, and steps are finite",
        measure=_worst("gentleness_ratio"),
        figure="shrinkage",
    ),
)

CAPTIONS = {
    "paths": "λ of every group over the updates, until the target is reached or updates end. Static scores: the lowest "
    "go one by one, and those next in rank follow. A group recovers where its increment is negative; with increments "
    "clipped at 0 none does. Ranks of the moment keep λ away from the ceiling.",
    "increment": "What λ gains at one update (markers) on Δλ (line): negative beyond the threshold.",
    "times": "When each group goes with a static ranking (markers), and when the oracle says (lines).",
    "shrinkage": "Left, what gradient descent leaves of each weight (markers) on 1/(1 + δλ/h) (lines); grey, the same "
    "Hessians rotated. Right, how unequal the L1 norms of groups become, and of groups of one curvature.",
}
"""What to look for in each figure."""
