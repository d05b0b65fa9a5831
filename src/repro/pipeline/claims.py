"""A claim of a paper: a check that can fail, stated as data beside the experiment that measures it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import Any, Literal

import pandas as pd

from repro.pipeline.store import Record

Plain = Mapping[str, Any]
"""A configuration as records keep it: nested mappings, lists, numbers and words."""


class NotMeasured(Exception):
    """Raised by a measurement, with the reason, where a record has nothing that could be compared."""


@dataclass(frozen=True)
class Claim:
    """One statement, and the measurement that decides it.

    Attributes:
        id: short name, unique in its module.
        statement: what the paper says, in one plain sentence.
        source: where it stands: theorem or experiment, and section of the theory.
        quantity: what is measured, with its unit.
        low, high: what the measurement must lie in; infinite where one side is free.
        because: why this tolerance and no other.
        measure: a value for each seed of a record, NaN where it could not be measured, one alone where no seed has a
            part in it; `NotMeasured` where nothing could be compared.
        rule: `every`: each seed's value must lie within; `interval`: the confidence interval of their mean must,
            an equivalence test that needs at least two seeds.
        ideal: what a perfect measurement of a true theory gives, from which the tolerance is counted. None: 0 below
            an upper limit alone, twice a lower one, the middle of two.
        scales: at which it is decided; smaller ones train too briefly to decide it.
        bears: whether it is a claim about this configuration at all; one module may serve several experiments.
        figure: the figure that shows it.
        caveat: what is known of why it may fail; the report says it where it does.
        departs: experiments in which it is known to fail, for the reason in `caveat`. There it stands as `fails` like
            any other; but only a failure that nobody knew of is an exit code.
    """

    id: str
    statement: str
    source: str
    quantity: str
    because: str
    measure: Callable[[Record], pd.Series]
    low: float = -inf
    high: float = inf
    rule: Literal["every", "interval"] = "every"
    ideal: float | None = None
    scales: tuple[str, ...] = ("smoke", "cpu", "gpu")
    bears: Callable[[Plain], bool] = lambda config: True
    figure: str = ""
    caveat: str = ""
    departs: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """The allowed values in words."""
        low, high = shown(self.low), shown(self.high)
        if self.low == self.high:
            return f"= {low}"
        if self.low == -inf:
            return f"≤ {high}"
        return f"≥ {low}" if self.high == inf else f"{low} … {high}"

    def left(self, value: float) -> float:
        """The part of the tolerance, from the ideal to the limit, that `value` leaves: 1 at the ideal or better, 0 at
        the limit, negative beyond; NaN where nothing is tolerated."""
        limits = [limit for limit in (self.low, self.high) if isfinite(limit)]
        ideal = self.ideal
        if ideal is None:
            one_sided = self.high - abs(self.high) if self.low == -inf else self.low + abs(self.low)
            ideal = sum(limits) / 2 if len(limits) == 2 else one_sided
        parts = [(limit - value) / (limit - ideal) for limit in limits if limit != ideal]
        return min([1.0, *parts]) if parts and value == value else nan


def shown(value: float) -> str:
    """Three digits, in the shortest form that one reads without counting zeros."""
    if not isfinite(value):
        return "NaN" if value != value else f"{value}"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"
