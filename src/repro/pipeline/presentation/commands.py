"""What the scripts that show records do with their overrides. None of them trains."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from repro.pipeline import plotting
from repro.pipeline.composition.conf import SCALES
from repro.pipeline.execution.commands import plan
from repro.pipeline.presentation import compare as comparison
from repro.pipeline.presentation import export as tables
from repro.pipeline.presentation import figures as rendering
from repro.pipeline.presentation import report as page
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings.loading import load
from repro.pipeline.settings.look import look_of
from repro.pipeline.store import Run
from repro.pipeline.system.errors import UserError


def figures(overrides: Sequence[str], extra: Path | None) -> int:
    """`scripts/figures.py`."""
    look, rest = look_of(overrides)
    plotting.check(look)
    if refused := next((text for text in rest if text.split("=")[0] == "figures"), None):
        raise UserError(f"{refused}: this draws figures; figure.only=[NAME,...] draws some of them")
    runs = plan(rest, extra)
    code = rendering.render_all(runs, look=look)
    _say_where_records_are(runs, rest, extra)
    return code


def report(overrides: Sequence[str], extra: Path | None) -> int:
    """`scripts/report.py`: exit code 1 where a claim fails that is not known to."""
    runs = plan(overrides, extra)
    ledger = verdicts.ledger(runs)
    page.print_ledger(ledger)
    print(f"report: {page.write(runs, ledger, page.place(runs))}")
    _say_where_records_are(runs, overrides, extra)
    return 1 if verdicts.surprising(ledger) else 0


def compare(overrides: Sequence[str], extra: Path | None) -> int:
    """`scripts/compare.py`: exit code 1 where a record differs from its reference."""
    runs = plan(overrides, extra)
    alike = comparison.print_comparison(runs, page.REFERENCE)
    _say_where_records_are(runs, overrides, extra)
    return 0 if alike else 1


def export(overrides: Sequence[str], extra: Path | None) -> int:
    """`scripts/export.py`."""
    ours, rest = _settings(overrides, ("table", "columns", "out"))
    table = ours.get("table", "ledger")
    if table not in tables.TABLES:
        raise UserError(f"table={table}: must be one of {', '.join(tables.TABLES)}")
    if table == "ledger":
        runs = plan(rest, extra)
        frame, results, name = verdicts.table(verdicts.ledger(runs)), runs[0].results, table
    else:
        given, filters = _settings(rest, ("experiment", "results"))
        if "experiment" not in given:
            raise UserError(f"table={table}: of which experiment? add experiment=NAME")
        results, name = Path(given.get("results", "results")), f"{given['experiment']}_{table}"
        frame = tables.load(given["experiment"], table, results, filters)
    chosen = tables.select(frame, ours.get("columns"))
    for path in tables.write(chosen, Path(ours.get("out", results / "tables" / name))):
        print(f"{path}: {len(chosen)} rows")
    return 0


def _say_where_records_are(runs: Sequence[Run], overrides: Sequence[str], extra: Path | None) -> None:
    """Where a record is missing that is there at another scale: at which, and what to type."""
    missing = [run.config.name for run in runs if not run.place.path.exists()]
    rest = [text for text in overrides if not text.startswith(("scale=", "experiment="))]
    for scale in (scale for scale in SCALES if missing and scale != runs[0].config.scale):
        names = []
        for name in missing:
            with contextlib.suppress(UserError):  # what does not go at that scale
                if Run(load([f"experiment={name}", *rest, f"scale={scale}"], extra=extra)).place.path.exists():
                    names.append(name)
        if names:
            there = f"{', '.join(names)}: recorded at scale={scale}"
            print(f"{there}; to see them: this command with scale={scale}, or make … SCALE={scale}", file=sys.stderr)


def _settings(overrides: Sequence[str], keys: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The values of those `overrides` whose key is one of `keys`, and the other overrides."""
    found: dict[str, str] = {}
    rest = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{text}: not an override; an override is key=value")
        if key not in keys:
            rest.append(text)
        elif found.setdefault(key, value) != value or not value:
            raise UserError(f"{text}: {key} takes one value, once")
    return found, rest
