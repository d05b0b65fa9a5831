"""Several runs on the workers of a launcher: first the parts of their grids, then the runs that put them together.

What workers compute, they leave in the results folder, a filesystem that all of them see: parts in `parts/`, records in
`runs/`. A worker that dies costs what it was at; the same command again computes that alone.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.pipeline.execution import runner
from repro.pipeline.execution.launchers import Launcher
from repro.pipeline.execution.runner import Outcome
from repro.pipeline.store import Run
from repro.pipeline.store.parts import Part
from repro.pipeline.system.distributed import worker
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress

THREADS = 1  # on which a worker computes where the configuration names no number
PROBE_TIMEOUT = 10.0  # seconds that a network filesystem may take to show a new file elsewhere


@dataclass(frozen=True)
class Unit:
    """What one worker does at a time: a part of a run's grid, or a whole run."""

    run: Run
    part: Part | None  # of its grid; None for the run itself
    folder: Path  # the working directory, to which `config.results` is relative
    probe: Path  # a folder in the results folder that shows it is shared


def execute_all(plan: Sequence[Run], launcher: Launcher) -> list[Outcome | str]:
    """The runs of `plan` on workers: for each its outcome, or what went wrong.

    Cuts a grid into parts of `launcher.cells` cells, networks one by one. The cuts do not depend on how many workers
    there are, and neither do the records, bit for bit, at the same number of threads. Raises a `UserError` where the
    launcher is not installed or cannot start, or the results folder does not do.
    """
    pending = [n for n, run in enumerate(plan) if run.wanted() is None]
    wrong: dict[int, str] = {}
    if pending:
        for why in filter(None, (plan[n].outdated for n in pending)):
            print(why, flush=True)
        threads = max(run.config.threads or THREADS for run in plan)
        results = plan[0].results
        logs = results / "launcher"
        with launcher.started(threads), probe(results) as token:
            parts = {n: missing(plan[n], launcher) for n in pending}
            first: list[tuple[int, Part | None]] = [(n, part) for n in pending for part in parts[n]]
            first += [(n, None) for n in pending if not parts[n]]
            last = [(n, None) for n in pending if parts[n]]
            for title, todo in (("parts and single runs", first), ("runs put together", last)):
                todo = [(n, part) for n, part in todo if n not in wrong]
                units = [Unit(plan[n], part, Path.cwd(), token) for n, part in todo]
                with Progress(f"{launcher.engine}: {title}", total=len(units) or None) as bar:  # nothing to say of none
                    for position, problem in launcher.run(work, units, threads, logs):
                        if problem:
                            wrong.setdefault(todo[position][0], problem)
                        bar.advance()
        if not wrong:
            shutil.rmtree(logs, ignore_errors=True)
    return [wrong[n] if n in wrong else _outcome(plan[n], ran=n in pending) for n in range(len(plan))]


def work(unit: Unit) -> None:
    """What a worker does with a unit; a `UserError` where it does not see the results folder of who started it."""
    os.chdir(unit.folder)
    _wait_for(unit.probe)
    with worker():
        if unit.part is None:
            runner.execute(unit.run, quiet=True)
        else:
            runner.heavy("making").make_part(unit.run, unit.part)


def missing(run: Run, launcher: Launcher) -> list[Part]:
    """The parts of a run's grid that nobody has computed; none where it is not worth cutting."""
    count, training = run.config.cells, run.config.training
    size = launcher.cells if training.BATCHED else 1
    if count <= size or training.world_size > 1:
        return []
    stored = run.parts.stored()
    return [part for i in range(0, count, size) if (part := (i, min(i + size, count))) not in stored]


def _outcome(run: Run, *, ran: bool) -> Outcome | str:
    if not ran:
        return runner.execute(run)  # says that it is cached
    record = run.record()
    if record is None:
        return "the workers left no record"
    return Outcome(record, False, sum(record.summary["durations"].values()))


@contextlib.contextmanager
def probe(results: Path) -> Iterator[Path]:
    """A folder in `results`, there while the block lasts, by which workers know the folder; it has been tried first:
    a `UserError` where a folder cannot be renamed there, which is how records become whole in one step."""
    with contextlib.ExitStack() as stack:
        try:
            results.mkdir(parents=True, exist_ok=True)
            token = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".shared-", dir=results.absolute())))
            before, after = token / "before", token / "after"
            before.mkdir()
            (before / "file").touch()
            before.rename(after)
            if before.exists() or not (after / "file").is_file():
                raise UserError(f"results={results}: a renamed folder does not arrive whole; use another filesystem")
        except OSError as error:
            raise UserError(f"results={results}: {error.strerror or error}") from None
        if not _locks_hold(token / "lock"):
            print(f"warning: {results} has no locks: records stay whole, but two commands may do the same run twice")
        yield token


def _locks_hold(path: Path) -> bool:
    """Whether a second open file waits for the first one's lock."""
    try:
        with path.open("w") as one, path.open("w") as other:
            for file in (one, other):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


def _wait_for(token: Path) -> None:
    until = time.monotonic() + PROBE_TIMEOUT
    while not token.exists():
        if time.monotonic() > until:
            raise UserError(f"results: {token.parent} is another folder on {socket.gethostname()}; workers share it")
        time.sleep(0.2)
