"""Claims of the paper as checks that can fail: what a record says of each, and why that counts.

An experiment's module states its claims as data, `CLAIMS`; `judge` measures one of them on a record and compares with
what theory allows. Nothing here trains or imports torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from repro.config import experiment_module
from repro.records import Record

if TYPE_CHECKING:
    from repro.config import Config

CONFIDENCE = 0.95

Decision = Literal["holds", "fails", "not measured"]


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
    low: float
    high: float
    because: str
    measure: Callable[[Record], pd.Series]
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


@dataclass(frozen=True)
class Verdict:
    """What a record says of a claim.

    Attributes:
        claim: the claim.
        experiment: the name of the experiment.
        decision: `holds`, `fails` or `not measured`.
        values: the measurement of each seed, in the order of `seeds`.
        seeds: of the record.
        interval: of the mean over seeds at 95 % (Student's t); None for one seed.
        scale: at which it was measured; None without a record.
        fingerprint: of the record; None without one.
        command: what measures it (again).
        note: why it was not measured.
    """

    claim: Claim
    experiment: str
    decision: Decision
    command: str
    values: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    interval: tuple[float, float] | None = None
    scale: str | None = None
    fingerprint: str | None = None
    note: str = ""

    @property
    def decisive(self) -> float:
        """The value that the decision hangs on: for `every` the seed's farthest out, for `interval` the mean."""
        if not self.values:
            return nan
        if self.claim.rule == "interval":
            return float(np.mean(self.values))
        low, high = self.claim.low, self.claim.high
        outside = [max(low - value, value - high) if isfinite(value) else inf for value in self.values]
        return self.values[int(np.argmax(outside))]

    @property
    def measured(self) -> str:
        """The decisive value, and the mean over seeds ± half of its 95 % confidence interval."""
        if not self.values:
            return self.note
        if self.interval is None:
            return shown(self.decisive)
        mean = float(np.mean(self.values))
        spread = f"{shown(mean)} ± {shown(self.interval[1] - mean)}"
        return spread if self.claim.rule == "interval" else f"{shown(self.decisive)} (mean {spread})"


def claims_of(module: str) -> tuple[Claim, ...]:
    """The claims that an experiment's module states, none for one that states none."""
    return tuple(getattr(experiment_module(module), "CLAIMS", ()))


def judge(claim: Claim, record: Record | None, *, experiment: str, command: str) -> Verdict | None:
    """What `record` says of `claim`; None where its configuration does not bear on it.

    `command` is what a reader types to measure the claim.
    """
    if record is None:
        return Verdict(claim, experiment, "not measured", command, note="no record")
    scale, fingerprint = record.config["scale"], record.fingerprint
    if scale not in claim.scales:
        note = f"not decided at scale {scale}"
        return Verdict(claim, experiment, "not measured", command, scale=scale, fingerprint=fingerprint, note=note)
    found = claim.measure(record).sort_index()
    if found.empty:
        return None
    values = tuple(float(value) for value in found)
    interval = confidence_interval(values)
    if claim.rule == "interval":
        inside = interval is not None and claim.low <= interval[0] and interval[1] <= claim.high
    else:
        inside = all(claim.low <= value <= claim.high for value in values)  # NaN is inside of nothing
    return Verdict(
        claim,
        experiment,
        "holds" if inside else "fails",
        record.summary["command"] or command,
        values,
        tuple(int(seed) for seed in found.index),
        interval,
        scale,
        fingerprint,
    )


def ledger(found: Sequence[tuple["Config", Record | None, str]]) -> list[Verdict]:
    """Every claim of every (configuration, record or None, command), in that order."""
    return [
        verdict
        for config, record, command in found
        for claim in claims_of(config.module)
        if (verdict := judge(claim, record, experiment=config.name, command=command)) is not None
    ]


def confidence_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Of the mean of independent `values`, Student's t at `CONFIDENCE`; None for fewer than two or any NaN."""
    if len(values) < 2 or not all(map(isfinite, values)):
        return None
    from scipy.stats import t

    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach


def table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """The ledger as a table, a row a verdict."""
    rows: list[Mapping[str, Any]] = [
        {
            "experiment": v.experiment,
            "claim": v.claim.id,
            "statement": v.claim.statement,
            "quantity": v.claim.quantity,
            "measured": v.decisive,
            "low": v.interval[0] if v.interval else nan,
            "high": v.interval[1] if v.interval else nan,
            "expected": v.claim.expected,
            "verdict": v.decision,
            "seeds": len(v.values),
            "scale": v.scale,
            "record": v.fingerprint,
            "command": v.command,
        }
        for v in verdicts
    ]
    return pd.DataFrame(rows)


def shown(value: float) -> str:
    """Three digits, in the shortest form that one reads without counting zeros."""
    if not isfinite(value):
        return "NaN" if value != value else f"{value}"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"
