"""What records say of the claims: the ledger. Nothing here trains or imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import t

from repro.pipeline.claims import Claim, shown
from repro.pipeline.experiment import experiment
from repro.pipeline.store import Record, Run

CONFIDENCE = 0.95

Decision = Literal["holds", "fails", "not measured"]


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


def ledger(runs: Sequence[Run]) -> list[Verdict]:
    """Every claim of every run, in that order."""
    return [
        verdict
        for run, record in ((run, run.record()) for run in runs)
        for claim in experiment(run.config).claims
        if (verdict := judge(claim, record, experiment=run.config.name, command=run.command)) is not None
    ]


def confidence_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Of the mean of independent `values`, Student's t at `CONFIDENCE`; None for fewer than two or any NaN."""
    if len(values) < 2 or not all(map(isfinite, values)):
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach


def table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """The ledger as a table, a row a verdict."""
    rows: list[Mapping[str, object]] = [
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
