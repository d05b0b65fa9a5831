"""What records say of the claims: the ledger. Nothing here trains or imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, nan
from typing import Literal, get_args

import numpy as np
import pandas as pd

from repro.pipeline.claims import Claim, NotMeasured, shown
from repro.pipeline.experiment import experiment
from repro.pipeline.intervals import reach
from repro.pipeline.store import Record, Run

ROUNDING = 1e-9
"""Values nearer to a whole number than this may be alike by chance."""

Decision = Literal["holds", "fails", "not measured"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)


@dataclass(frozen=True)
class Verdict:
    """What a record says of a claim.

    Attributes:
        claim: the claim.
        experiment: the name of the experiment.
        decision: `holds`, `fails` or `not measured`.
        values: the measurement of each seed, in the order of `seeds`.
        seeds: of the record.
        scale: at which it was measured; None without a record.
        fingerprint: of the record; None without one.
        command: what measures it (again).
        note: why it was not measured.
        shared: the experiment before it in the ledger that has some of these values to the bit: it is measured on the
            same networks, and the ledger counts the claim there.
    """

    claim: Claim
    experiment: str
    decision: Decision
    command: str
    values: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    scale: str | None = None
    fingerprint: str | None = None
    note: str = ""
    shared: str = ""

    @property
    def known(self) -> bool:
        """Whether it is a failure that the claim's own text foretells."""
        return self.decision == "fails" and self.experiment in self.claim.departs

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the mean, where that is what is decided: it says nothing of a limit on each value."""
        return confidence_interval(self.values) if self.claim.rule == "interval" else None

    @property
    def independent(self) -> int:
        """Seeds whose measurement differs: a number in which no seed has a part is one, however often it is copied."""
        return len(np.unique(self.values))

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
    def margin(self) -> float:
        """The part of the tolerance that is left, see `Claim.left`; for an interval by its farther end."""
        return min(map(self.claim.left, self.interval or (self.decisive,)))

    @property
    def measured(self) -> str:
        """The decisive value; of a mean with half of its 95 % confidence interval."""
        if not self.values:
            return self.note
        reach = f" ± {shown(self.interval[1] - self.decisive)}" if self.interval else ""
        return f"{shown(self.decisive)}{reach}"

    @property
    def basis(self) -> str:
        """What the verdict rests on: how many values, whether they are its own, what is left of the tolerance."""
        n, own = len(self.values), self.independent
        if not n:
            return ""
        words = f"mean of {n} seeds" if self.claim.rule == "interval" else f"worst of {n} seeds"
        if n > own:
            words = f"one value, alike for {n} seeds" if own == 1 else f"{words}, {own} different values"
        parts = ["one value" if n == 1 else words]
        if isfinite(self.margin):
            part = f"{shown(100 * abs(self.margin))} %"
            parts.append(f"{part} left" if self.margin >= 0 else f"{part} beyond")
        if self.shared:
            parts.append(f"same networks as {self.shared}")
        return "; ".join(parts)


def judge(claim: Claim, record: Record | None, *, experiment: str, command: str) -> Verdict | None:
    """What `record` says of `claim`; None where the claim is about another configuration.

    `command` is what a reader types to measure the claim.
    """
    if record is None:
        return Verdict(claim, experiment, "not measured", command, note="no record")
    if not claim.bears(record.config):
        return None
    scale = record.config["scale"]
    none = Verdict(claim, experiment, "not measured", command, scale=scale, fingerprint=record.fingerprint)
    if scale not in claim.scales:
        return replace(none, note=f"not decided at scale {scale}")
    try:
        found = claim.measure(record).sort_index()
    except NotMeasured as reason:
        return replace(none, note=str(reason))
    values = tuple(float(value) for value in found)
    if not values:
        return replace(none, note="nothing to compare in this record")
    if claim.rule == "interval" and values == values[:1] * len(values):
        return replace(none, note="a single value: the interval of a mean needs two seeds or more")
    verdict = replace(
        none,
        values=values,
        seeds=tuple(int(seed) for seed in found.index),
        command=record.summary["command"] or command,
    )
    if claim.rule == "interval":
        interval = verdict.interval
        inside = interval is not None and claim.low <= interval[0] and interval[1] <= claim.high
    else:
        inside = all(claim.low <= value <= claim.high for value in values)  # NaN is inside of nothing
    return replace(verdict, decision="holds" if inside else "fails")


def ledger(runs: Sequence[Run]) -> list[Verdict]:
    """Every claim of every run, in that order."""
    found: list[Verdict] = []
    for run in runs:
        record, config = run.record(), run.config.plain()
        for claim in experiment(run.config).claims:
            if not claim.bears(config):
                continue
            verdict = judge(claim, record, experiment=run.config.name, command=run.command)
            if verdict is not None:
                earlier = next((v.experiment for v in found if same_networks(v, verdict)), "")
                found.append(replace(verdict, shared=earlier))
    return found


def same_networks(one: Verdict, other: Verdict) -> bool:
    """Whether two experiments say one thing of the same networks: for some seed their values are alike to the bit.

    Fractions of a whole and rounding are alike by chance, and do not count.
    """
    if one.experiment == other.experiment or one.decision != other.decision:
        return False
    if (one.claim.quantity, one.claim.expected) != (other.claim.quantity, other.claim.expected):
        return False
    both = set(zip(one.seeds, one.values, strict=True)) & set(zip(other.seeds, other.values, strict=True))
    return any(isfinite(value) and abs(value - round(value)) > ROUNDING for _, value in both)


def surprising(verdicts: Sequence[Verdict]) -> bool:
    """Whether a claim fails that is not known to: what makes an exit code."""
    return any(v.decision == "fails" and not v.known for v in verdicts)


def tally(verdicts: Sequence[Verdict]) -> dict[Decision, int]:
    """How many claims hold, fail and are not measured; what rests on the same networks is counted once."""
    own = [v.decision for v in verdicts if not v.shared]
    return {decision: own.count(decision) for decision in DECISIONS}


def confidence_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Of the mean of independent `values`, Student's t at 95 %; None for fewer than two or any NaN."""
    if len(values) < 2 or not all(map(isfinite, values)):
        return None
    mean, half = float(np.mean(values)), reach(values)
    return mean - half, mean + half


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
            "known": v.known,
            "reason": v.note,
            "margin": v.margin,
            "seeds": len(v.values),
            "independent": v.independent,
            "same networks as": v.shared,
            "scale": v.scale,
            "record": v.fingerprint,
            "command": v.command,
        }
        for v in verdicts
    ]
    return pd.DataFrame(rows)
