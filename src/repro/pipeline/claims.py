"""A claim of a paper: a check that can fail, stated as data beside the experiment that measures it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

import pandas as pd

from repro.pipeline.store import Record


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
        measure: a value for each seed of a record, NaN where it could not be measured; an empty series where the
            record's configuration does not bear on the claim.
        rule: `every`: each seed's value must lie within; `interval`: the confidence interval of their mean must,
            an equivalence test that needs at least two seeds.
        scales: at which it is decided; smaller ones train too briefly to decide it.
        figure: the figure that shows it.
        caveat: what is known of why it may fail; the report says it where it does.
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
    scales: tuple[str, ...] = ("smoke", "cpu", "gpu")
    figure: str = ""
    caveat: str = ""

    @property
    def expected(self) -> str:
        """The allowed values in words."""
        low, high = shown(self.low), shown(self.high)
        if self.low == self.high:
            return f"= {low}"
        if self.low == -inf:
            return f"≤ {high}"
        return f"≥ {low}" if self.high == inf else f"{low} … {high}"


def shown(value: float) -> str:
    """Three digits, in the shortest form that one reads without counting zeros."""
    if not isfinite(value):
        return "NaN" if value != value else f"{value}"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"
