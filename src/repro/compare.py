"""A user's records beside the reference: claim by claim and curve by curve."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
import pandas as pd

from repro import claims, records
from repro.config import Config
from repro.records import Record

# Two machines round differently, and training amplifies that: a curve counts as the same where it stays within this
# fraction of its own largest value. Between one and two threads on one machine it was 1e-12 for linear networks and,
# in the first epochs, up to 0.12 for deep ones.
NOISE = {"sweep": 0.01, "network": 0.2}


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


def find_reference(config: Config, folder: Path) -> Record | None:
    """The reference record of a configuration under `folder`, whatever hardware it is from."""
    fingerprint = records.fingerprint(config.plain())
    found = (records.find(results, config.name, fingerprint) for results in sorted(folder.glob("*/")))
    return next((record for record in found if record is not None), None)


def differences(mine: Record, reference: Record) -> list[Difference]:
    """One difference for each numeric column that both records' curves have."""
    if mine.curves.empty or reference.curves.empty:
        return []
    both = mine.curves.merge(
        reference.curves, on=["cell", "step"], suffixes=("", " of the reference"), validate="one_to_one"
    )
    allowed = NOISE[mine.config["training"]["kind"]]
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


def print_comparison(found: Sequence[tuple[Config, Record | None, str]], folder: Path) -> bool:
    """Print how each experiment's record compares with the reference; returns whether all that were compared agree."""
    from rich.console import Console
    from rich.table import Table

    table = Table("experiment", "claims, yours : reference", "curves", title="Your records beside the reference")
    agree = True
    for config, record, _ in found:
        reference = find_reference(config, folder)
        if record is None or reference is None:
            missing = "no record of yours" if record is None else "no reference of this configuration"
            table.add_row(config.name, "–", missing)
            continue
        if record.path.resolve() == reference.path.resolve():
            table.add_row(config.name, "–", "this is the reference")
            continue
        changed, same = _claims(config, record, reference)
        columns = differences(record, reference)
        apart = sorted((d for d in columns if d.verdict == "differs"), key=lambda d: -d.distance / d.allowed)
        agree = agree and same and not apart
        table.add_row(config.name, changed, _curves(columns, apart), style="" if same and not apart else "bold red")
    console = Console()
    (console if console.is_terminal else Console(width=130)).print(table)
    return agree


def _claims(config: Config, mine: Record, reference: Record) -> tuple[str, bool]:
    lines, same = [], True
    for claim in claims.claims_of(config.module):
        ours, theirs = (claims.judge(claim, r, experiment=config.name, command="") for r in (mine, reference))
        if ours is None or theirs is None:
            continue
        same = same and ours.decision == theirs.decision
        sign = "=" if ours.decision == theirs.decision else "≠"
        lines.append(f"{sign} {claim.id} {claims.shown(ours.decisive)} : {claims.shown(theirs.decisive)}")
    return "\n".join(lines), same


def _curves(columns: Sequence[Difference], apart: Sequence[Difference]) -> str:
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
