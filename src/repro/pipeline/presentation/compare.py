"""A user's records beside the reference: claim by claim and curve by curve."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from repro.pipeline.claims import shown
from repro.pipeline.experiment import experiment
from repro.pipeline.presentation.verdicts import Verdict, judge
from repro.pipeline.store import Record, Run
from repro.pipeline.store.place import Place


@dataclass(frozen=True)
class Difference:
    """What two records of one configuration differ by.

    Attributes:
        column: of the curves.
        distance: largest difference, as a fraction of the reference's largest value.
        allowed: what counts as the noise of hardware.
        where: the cell and step of the largest difference.
    """

    column: str
    distance: float
    allowed: float
    where: str

    @property
    def verdict(self) -> str:
        if self.distance == 0:
            return "identical"
        return "same" if self.distance <= self.allowed else "differs"


def find_reference(run: Run, folder: Path) -> Record | None:
    """The reference record of a run's configuration under `folder`, whatever hardware it is from."""
    places = [Place(results, run.place.name, run.place.fingerprint) for results in sorted(folder.glob("*/"))]
    return next((Record(place.path) for place in places if place.intact()), None)


def differences(mine: Record, reference: Record, allowed: float) -> list[Difference]:
    """One difference for each numeric column that both records' curves have; `allowed` is hardware's noise."""
    if mine.curves.empty or reference.curves.empty:
        return []
    both = mine.curves.merge(
        reference.curves, on=["cell", "step"], suffixes=("", " of the reference"), validate="one_to_one"
    )
    columns = [str(c) for c in mine.curves.select_dtypes("number") if f"{c} of the reference" in both]
    return [_difference(both, column, allowed) for column in columns]


def _difference(both: pd.DataFrame, column: str, allowed: float) -> Difference:
    ours, theirs = (both[name].to_numpy(float) for name in (column, f"{column} of the reference"))
    distance = np.abs(ours - theirs) / max(np.nanmax(np.abs(theirs), initial=0), np.finfo(float).tiny)
    # missing on one side only is a difference, missing on both is none
    distance = np.where(np.isnan(ours) & np.isnan(theirs), 0, np.where(np.isnan(distance), inf, distance))
    worst = both.iloc[int(np.argmax(distance))]
    where = f"cell {int(worst.cell)}, step {int(worst.step)}"
    return Difference(column, float(distance.max()), allowed, where)


def print_comparison(runs: Sequence[Run], folder: Path) -> bool:
    """Print how each run's record compares with the reference; returns whether all that were compared agree."""
    table = Table("experiment", "claims, yours : reference", "curves", title="Your records beside the reference")
    agree = True
    for run in runs:
        name, record, reference = run.config.name, run.record(), find_reference(run, folder)
        if record is None or reference is None:
            missing = "no record of yours" if record is None else "no reference of this configuration"
            table.add_row(name, "–", missing)
            continue
        if record.path.resolve() == reference.path.resolve():
            table.add_row(name, "–", "this is the reference")
            continue
        changed, same = _claims(run, record, reference)
        columns = differences(record, reference, run.config.training.ROUNDING)
        alike = same and not any(d.verdict == "differs" for d in columns)
        agree = agree and alike
        table.add_row(name, changed, in_words(columns), style="" if alike else "bold red")
    console = Console()
    (console if console.is_terminal else Console(width=130)).print(table)
    return agree


def _claims(run: Run, mine: Record, reference: Record) -> tuple[str, bool]:
    lines, same = [], True
    for claim in experiment(run.config).claims:
        ours, theirs = (judge(claim, r, experiment=run.config.name, command="") for r in (mine, reference))
        if ours is None or theirs is None:
            continue
        same = same and ours.decision == theirs.decision
        sign = "=" if ours.decision == theirs.decision else "≠"
        lines.append(f"{sign} {claim.id} {_in_short(ours)} : {_in_short(theirs)}")
    return "\n".join(lines), same


def _in_short(verdict: Verdict) -> str:
    left = f" ({shown(100 * verdict.margin)} % left)" if isfinite(verdict.margin) else ""
    return f"{verdict.measured if verdict.values else verdict.decision}{left}"


def in_words(columns: Sequence[Difference]) -> str:
    """How curves compare with the reference's: the three that are farthest from it, or that none is."""
    apart = sorted((d for d in columns if d.verdict == "differs"), key=lambda d: -d.distance / d.allowed)
    if not columns:
        return "nothing to compare"
    if apart:
        return "\n".join(
            f"{d.column} differs by {100 * d.distance:.2g} % of its maximum, {d.where} (noise: {100 * d.allowed:g} %)"
            for d in apart[:3]
        )
    worst = max(columns, key=lambda d: d.distance)
    if worst.distance == 0:
        return f"identical ({len(columns)} columns)"
    return f"same within {100 * worst.distance:.2g} % of its maximum (noise: {100 * worst.allowed:g} %)"
