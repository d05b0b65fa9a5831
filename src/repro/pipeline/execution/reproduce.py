"""All experiments one after another, then all figures, the ledger of claims, the report and the comparison."""

import sys
import time
import traceback
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from repro.pipeline.execution import runner, spread
from repro.pipeline.execution.launchers import Launcher
from repro.pipeline.execution.outlook import Outlook
from repro.pipeline.presentation import compare, figures, report, verdicts
from repro.pipeline.presentation.headline import headline
from repro.pipeline.store import Run
from repro.pipeline.store.misfortunes import misfortunes
from repro.pipeline.system.errors import DiskFull, Misfortune, UserError, say
from repro.pipeline.system.locks import Taken
from repro.pipeline.system.progress import clock


def reproduce_all(plan: Sequence[Run], launcher: Launcher | None = None) -> int:
    """Runs what is not cached, draws what is recorded, judges the claims; returns the exit code.

    An experiment that fails prints its traceback and the others still run. The exit code is 1 then, and also where a
    claim fails that is not known to (`Claim.departs`); a difference to the reference records is shown and no failure.
    Several processes may do this at once: each run is done by one of them.
    """
    started = time.monotonic()
    outlook = Outlook(plan)
    outlook.say()
    outcomes = spread.execute_all(plan, launcher) if launcher is not None else None
    table = Table("experiment", "", "time", "headline", show_lines=True)
    failed: list[str] = []
    done: list[Run] = []

    def attempt(run: Run, wait: bool) -> None:
        name = run.config.name
        outlook.next(run)
        try:
            outcome = outcomes[plan.index(run)] if outcomes else runner.execute(run, wait=wait)
            if isinstance(outcome, str):
                raise RuntimeError(f"{name} on a worker: {outcome}")
        except (UserError, DiskFull, Taken):
            raise  # with a full disk no other run would fare better
        except Misfortune as misfortune:
            say(misfortune)
            wrong = str(misfortune)
        except Exception:
            traceback.print_exc()
            wrong = "traceback above"
        else:
            numbers = "\n".join(headline(outcome.record.summary["headline"]))
            table.add_row(name, "cached" if outcome.cached else "run", clock(outcome.seconds), numbers)
            done.append(run)
            outlook.done(run)
            if run.config.figures:
                with misfortunes(run.config):
                    figures.collect(outcome.record)
            return
        outlook.done(run)
        failed.append(name)
        table.add_row(name, "failed", "", wrong)

    runner.one_after_another(plan, attempt)
    done.sort(key=plan.index)
    console = Console()
    # a narrow pipe would break numbers apart
    (console if console.is_terminal else Console(width=110)).print(table)
    ledger = verdicts.ledger(done)
    report.print_ledger(ledger)
    compare.print_comparison(done, report.REFERENCE)
    if done:
        with misfortunes(plan[0].config):
            print(f"report: {report.write(done, ledger, report.place(plan))}")
    print(f"all done in {clock(time.monotonic() - started)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed or verdicts.surprising(ledger) else 0
