"""All experiments one after another, then all figures, the ledger of claims, the report and the comparison."""

import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from repro import claims, compare, composition, figures, report
from repro.cli import again, say_mistake
from repro.config import Config
from repro.errors import DiskFull, Misfortune, UserError
from repro.locks import Taken
from repro.progress import clock
from repro.records import Record


def reproduce_all(overrides: Sequence[str], extra: Path | None = None) -> int:
    """Runs what is not cached, draws what is recorded, judges the claims; returns the exit code.

    An experiment that fails prints its traceback and the others still run. The exit code is 1 then, and also where a
    claim that was measured fails; a difference to the reference records is shown and no failure. Several processes
    may do this at once: each run is done by one of them.

    Raises:
        UserError: an override that does not fit, before anything has run.
        DiskFull: no other run would fare better.
    """
    started = time.monotonic()
    launcher = composition.launcher(overrides, extra=extra)
    overrides = [text for text in overrides if not composition.is_launchers(text)]
    plan = figures.plan(overrides, extra, elsewhere=launcher is not None and launcher.elsewhere)
    composition.announce([config for config, _ in plan], overrides)
    if plan[0][0].estimate:
        from repro import estimate

        return estimate.say_all([config for config, _ in plan])
    from repro import runner

    outcomes: list[runner.Outcome | str] | None = None
    if launcher is not None:
        from repro import spread

        outcomes = spread.execute_all([(config, again(job, config)) for config, job in plan], launcher)
    rows: list[tuple[str, str, str, str]] = []
    failed: list[str] = []
    found: list[tuple[Config, Record | None, str]] = []

    def attempt(item: tuple[Config, list[str]], wait: bool) -> None:
        config, job = item
        command = again(job, config)
        try:
            outcome = outcomes[plan.index(item)] if outcomes else runner.execute(config, command, wait=wait)
            if isinstance(outcome, str):
                raise RuntimeError(f"{config.name} on a worker: {outcome}")
        except (UserError, DiskFull, Taken):
            raise
        except Misfortune as misfortune:
            say_mistake(misfortune)
            failed.append(config.name)
            rows.append((config.name, "failed", "", str(misfortune)))
        except Exception:
            traceback.print_exc()
            failed.append(config.name)
            rows.append((config.name, "failed", "", "traceback above"))
        else:
            numbers = "\n".join(runner.headline(outcome.record.summary["headline"]))
            state = "cached" if outcome.cached else "run"
            rows.append((config.name, state, clock(outcome.seconds), numbers))
            found.append((config, outcome.record, command))

    runner.one_after_another(plan, attempt)
    found.sort(key=lambda item: [config for config, _ in plan].index(item[0]))
    with runner.misfortunes(plan[0][0]):
        figures.collect([record for _, record, _ in found if record is not None])
    _table(rows)
    verdicts = claims.ledger(found)
    report.print_ledger(verdicts)
    compare.print_comparison(found, report.REFERENCE)
    if found:
        with runner.misfortunes(plan[0][0]):
            print(f"report: {report.write(found, verdicts, Path(found[0][0].results) / 'report.html')}")
    print(f"all done in {clock(time.monotonic() - started)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed or any(verdict.decision == "fails" for verdict in verdicts) else 0


def _table(rows: list[tuple[str, str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("experiment", "", "time", "headline", show_lines=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    # a narrow pipe would break numbers apart
    (console if console.is_terminal else Console(width=110)).print(table)
