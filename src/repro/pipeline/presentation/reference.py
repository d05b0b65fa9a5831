"""Taking records into `results/reference/`, where `compare` and the report find them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from repro.pipeline.execution.commands import plan
from repro.pipeline.presentation.report import REFERENCE
from repro.pipeline.store import Record, Run
from repro.pipeline.store.place import Place
from repro.pipeline.system.errors import UserError


def take(overrides: Sequence[str], extra: Path | None) -> int:
    """`scripts/reference.py`: exit code 1 where a record is missing or of other code."""
    runs = plan(overrides, extra)
    if REFERENCE.resolve() in runs[0].results.resolve().parents:
        raise UserError(f"results={runs[0].results}: is where references are taken to")
    return 0 if all([_take(run) for run in runs]) else 1


def _take(run: Run) -> bool:
    record, name = run.record(), run.config.name
    if record is None or record.other_code:
        print(f"{name}: not taken, {'there is no record' if record is None else f'its record is of {record.note}'}")
        return False
    there = Place(REFERENCE / run.config.scale, name, run.place.fingerprint)
    if there.intact() and not Record(there.path).other_code:
        return True
    shutil.rmtree(there.path.parent, ignore_errors=True)
    shutil.copytree(record.path, there.path, ignore=shutil.ignore_patterns("figures", ".*"))
    if (figures := record.path / "figures").is_dir():
        drawn = there.results / "figures" / name
        shutil.rmtree(drawn, ignore_errors=True)
        shutil.copytree(figures, drawn, ignore=shutil.ignore_patterns(".*"))
    print(f"{name}: taken into {there.path}")
    return True
