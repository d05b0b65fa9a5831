"""Several runs on the workers of a launcher: first the parts of their grids, then the runs that put them together.

What workers compute, they leave in the results folder, a filesystem that all of them see: parts in `parts/`, records in
`runs/`. A worker that dies costs what it was at; the same command again computes that alone.
"""

import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from repro import launchers, parts, records, runner
from repro.config import Config, experiment_module, processes
from repro.errors import UserError
from repro.launchers import Launcher
from repro.parts import Part
from repro.progress import Progress
from repro.runner import Outcome

THREADS = 1  # on which a worker computes where the configuration names no number
PROBE_TIMEOUT = 10.0  # seconds that a network filesystem may take to show a new file elsewhere


@dataclass(frozen=True)
class Unit:
    """What one worker does at a time: a part of a run's grid, or a whole run.

    Attributes:
        config: the run.
        command: what makes its record again.
        part: of the grid; None for the run itself.
        folder: the working directory, to which `config.results` is relative.
        probe: a file in the results folder that shows it is shared.
    """

    config: Config
    command: str
    part: Part | None
    folder: Path
    probe: Path


def execute_all(plan: Sequence[tuple[Config, str]], launcher: Launcher) -> list[Outcome | str]:
    """The runs of (configuration, command), on workers: for each its outcome, or what went wrong.

    Cuts a grid into parts of `launcher.cells` cells, networks one by one. The cuts do not depend on how many workers
    there are, and neither do the records, bit for bit, at the same number of threads.

    Raises:
        UserError: the launcher is not installed or cannot start, or the results folder does not do.
    """
    pending = [n for n, (config, _) in enumerate(plan) if config.force or _record(config) is None]
    wrong: dict[int, str] = {}
    threads = max([config.threads or THREADS for config, _ in plan], default=THREADS)
    if pending:
        results = Path(plan[0][0].results)
        logs = results / "launcher"
        with launchers.started(launcher, threads), probe(results) as token:

            def unit(number: int, part: Part | None = None) -> Unit:
                return Unit(*plan[number], part, Path.cwd(), token)

            cuts = {n: missing(plan[n][0], launcher) for n in pending}
            first = [(n, unit(n, part)) for n in pending for part in cuts[n]]
            first += [(n, unit(n)) for n in pending if not cuts[n]]
            rounds = (first, [(n, unit(n)) for n in pending if cuts[n]])
            for title, units in zip(("parts and single runs", "runs put together"), rounds, strict=True):
                units = [(n, u) for n, u in units if n not in wrong]
                wrong |= _round(title, units, launcher, threads, logs)
        if not wrong:
            shutil.rmtree(logs, ignore_errors=True)
    return [wrong[n] if n in wrong else _outcome(*plan[n], ran=n in pending) for n in range(len(plan))]


def _round(
    title: str, units: Sequence[tuple[int, Unit]], launcher: Launcher, threads: int, logs: Path
) -> dict[int, str]:
    """Does the units of (position of the run, unit), and returns what went wrong by run."""
    wrong: dict[int, str] = {}
    if not units:
        return wrong
    with Progress(f"{launcher.engine}: {title}", total=len(units)) as bar:
        for number, problem in launchers.run(launcher, work, [unit for _, unit in units], threads, logs):
            if problem:
                wrong.setdefault(units[number][0], problem)
            bar.advance(1)
    return wrong


def work(unit: Unit) -> None:
    """What a worker does with a unit.

    Raises:
        UserError: this machine does not see the results folder of the one that started it.
    """
    from repro.training.threads import torch_threads

    os.chdir(unit.folder)
    _wait_for(unit.probe)
    with torch_threads(THREADS), parts.worker():
        if unit.part is None:
            runner.execute(unit.config, unit.command, quiet=True)
        else:
            runner.compute_part(unit.config, unit.part)


def missing(config: Config, launcher: Launcher) -> list[Part]:
    """The parts of a configuration's grid that nobody has computed; none where it is not worth cutting."""
    grid_size = getattr(experiment_module(config.module), "grid_size", None)
    size = launcher.cells if config.training.kind == "sweep" else 1
    count = grid_size(config) if grid_size else 1
    if count <= size or processes(config) > 1:
        return []
    stored = parts.stored(config)
    return [part for i in range(0, count, size) if (part := (i, min(i + size, count))) not in stored]


def _record(config: Config) -> records.Record | None:
    return records.find(config.results, config.name, records.fingerprint(config.plain()))


def _outcome(config: Config, command: str, *, ran: bool) -> Outcome | str:
    if not ran:
        return runner.execute(config, command)  # says that it is cached
    record = _record(config)
    if record is None:
        return "the workers left no record"
    return Outcome(record, False, sum(record.summary["durations"].values()))


# ---------------------------------------------------------------------- the results folder


@contextmanager
def probe(results: Path) -> Iterator[Path]:
    """A file in `results`, there while the block lasts, by which workers know the folder; it has been tried first.

    Raises:
        UserError: a folder cannot be renamed there, which is how records become whole in one step.
    """
    token = (results / f".shared-{uuid.uuid4().hex}").absolute()
    try:
        results.mkdir(parents=True, exist_ok=True)
        _try_rename(token)
        token.write_text(socket.gethostname(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"results={results}: {error.strerror or error}") from None
    if not _locks_hold(token):
        print(f"warning: {results} has no locks: records stay whole, but two commands may do the same run twice")
    try:
        yield token
    finally:
        token.unlink(missing_ok=True)


def _try_rename(token: Path) -> None:
    before, after = token.with_suffix(".before"), token.with_suffix(".after")
    try:
        before.mkdir()
        (before / "file").touch()
        before.rename(after)
        moved = (after / "file").is_file() and not before.exists()
    finally:
        for folder in (before, after):
            (folder / "file").unlink(missing_ok=True)
            if folder.is_dir():
                folder.rmdir()
    if not moved:
        raise UserError(f"results={token.parent}: a renamed folder does not arrive whole; use another filesystem")


def _locks_hold(token: Path) -> bool:
    """Whether a second open file waits for the first one's lock."""
    import fcntl

    path = token.with_suffix(".lock")
    try:
        with path.open("w") as one, path.open("w") as other:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except OSError:
        return False
    finally:
        path.unlink(missing_ok=True)


def _wait_for(token: Path) -> None:
    until = time.monotonic() + PROBE_TIMEOUT
    while not token.exists():
        if time.monotonic() > until:
            raise UserError(f"results: {token.parent} is another folder on {socket.gethostname()}; workers share it")
        time.sleep(0.2)
