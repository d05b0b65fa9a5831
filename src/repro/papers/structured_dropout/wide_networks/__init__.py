"""What becomes of dropout in wide networks: at a fixed rate it vanishes, with p fixed it stays.

λ = r(1−θ)/(θd) is the weight of the regulariser ‖UVᵀX‖²_(r): at one θ it halves with every doubling of the width d;
the θ(d, p) that keeps λ = (1−p)/p keeps it. Measured on trained networks, by what their penalty is over that norm.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from repro.papers.structured_dropout.linear_claims import MINIMUM, TRAINED
from repro.papers.structured_dropout.settings import LinearConfig
from repro.pipeline.claims import Claim, NotMeasured
from repro.pipeline.settings import Count, OneOrMany, Probability, Section
from repro.pipeline.store import Record

FIXED = ("p", "retain")
"""What is held while the width grows."""


class Options(Section):
    """`growth`: the widths, multiples of `model.width`. `retain`: θ of those networks that all have the same, beside
    those that have the same p."""

    growth: OneOrMany[Count] = (1, 2, 4)
    retain: Probability = 0.3


class Config(LinearConfig):
    options: Options

    @property
    def cells(self) -> int:
        return 1  # several grids, one after the other

    @property
    def drawn(self) -> tuple[int, int]:
        noises, rates = super().drawn
        return 2, noises * (rates + 1)

    @property
    def networks(self) -> int:
        return len(self.options.growth) * len(FIXED) * super().cells


def _slope(fixed: str, expected: float) -> Callable[[Record], pd.Series]:
    """Of log(penalty weight) on log(width), of each seed the point's of the grid that lies farthest from `expected`."""

    def measure(record: Record) -> pd.Series:
        cells = record.cells[record.cells.fixed == fixed]
        if cells.width.nunique() < 2:
            raise NotMeasured("one width alone")
        found: dict[int, list[float]] = {}
        for (seed, _), rows in cells.groupby(["seed", "point"]):
            logs = np.log(rows.width), np.log(rows.penalty_weight)
            found.setdefault(seed, []).append(float(np.polyfit(*logs, 1)[0]) if logs[1].notna().all() else np.nan)
        return pd.Series({seed: max(some, key=lambda slope: abs(slope - expected)) for seed, some in found.items()})

    return measure


TOLERANCE = 0.02
BECAUSE = (
    "blocks unbalanced by 0.1, as much as balance is allowed to be off, raise a weight by 0.1² = 1 %, 0.007 of a slope "
    "over a factor of 4 in width; the other rule of the two is 1 away"
)

CLAIMS = (
    *MINIMUM,
    Claim(
        id="vanishes_at_fixed_rate",
        statement="At one retain probability θ, dropout vanishes as networks grow wider: its weight falls like 1/d.",
        source="section on the width, E2; paper section 1",
        quantity="slope of log(penalty / ‖UVᵀX‖²_(r)) of trained networks on log d, farthest from −1",
        low=-1 - TOLERANCE,
        high=-1 + TOLERANCE,
        because=BECAUSE,
        measure=_slope("retain", -1.0),
        scales=TRAINED,
        figure="width",
    ),
    Claim(
        id="stays_at_fixed_p",
        statement="With p fixed and θ following the width, the weight of dropout stays what it is.",
        source="section on the width, E2; paper section 1",
        quantity="slope of log(penalty / ‖UVᵀX‖²_(r)) of trained networks on log d, farthest from 0",
        low=-TOLERANCE,
        high=TOLERANCE,
        because=BECAUSE,
        measure=_slope("p", 0.0),
        scales=TRAINED,
        figure="width",
    ),
)

CAPTIONS = {
    "width": "The weight of the penalty on ‖UVᵀX‖²_(r) in trained networks (markers, mean over seeds, band ± one "
    "standard deviation) and how far their singular values are shrunk, against the width, on lines from theory. With θ "
    "fixed both go to 0, with p fixed neither does (and the weight is one for all r: the lines lie on each other).",
}
"""What to look for in each figure."""
