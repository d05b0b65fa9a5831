"""One configuration, from the cache or run anew, to a record with its figures."""

import concurrent.futures.process
import contextlib
import errno
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from repro import distributed, locks, parts, records, tracking
from repro.config import Config, NetworkTraining, experiment_module
from repro.errors import DiskFull, Misfortune, UserError, disk_is_full
from repro.progress import Progress, clock
from repro.records import Record

Item = TypeVar("Item")

STAMP = ".code"  # beside a record's figures: what code has drawn them


@dataclass(frozen=True)
class Outcome:
    """A run's record, whether it was there already, and the seconds that this call took."""

    record: Record
    cached: bool
    seconds: float


def execute(config: Config, command: str, *, quiet: bool = False, wait: bool = True) -> Outcome:
    """Runs the experiment that `config` describes, unless its record exists and `config.force` is false.

    Every run is one process's: others that want the same wait for it, and take its record. A run that fails or is
    interrupted leaves no record; W&B shows it as failed. `command` is stored as what a reader types to make the
    record again. `quiet` shows no progress.

    Raises:
        locks.Taken: another process is at this run, and `wait` is false.
        UserError, Misfortune: in one line, what to do.
    """
    started = time.monotonic()
    plain = config.plain()
    fingerprint = records.fingerprint(plain)
    if distributed.rank() != 0:
        found = None if config.force else records.find(config.results, config.name, fingerprint)
        return Outcome(found or _help(config), found is not None, time.monotonic() - started)
    with misfortunes(config):
        found = None if config.force else records.find(config.results, config.name, fingerprint)
        if found is None or _half_drawn(found):
            with _claimed(config, fingerprint, wait):
                # whoever had the claim before may have left the record
                found = None if config.force else records.find(config.results, config.name, fingerprint)
                if found is None:
                    record = _run(config, plain, fingerprint, command, quiet)
                    _clear(config, fingerprint)
                    report(record)
                    seconds = time.monotonic() - started
                    print(f"{config.name}: done in {clock(seconds)}, record {record.path}", flush=True)
                    return Outcome(record, False, seconds)
                redraw_if_needed(config.module, found)
    _tidy(config, fingerprint, found)
    note = f"; note: {found.note}" if found.note else ""
    print(f"{config.name}: cached in {found.path} (force=true runs it anew){note}", flush=True)
    return Outcome(found, True, time.monotonic() - started)


@contextlib.contextmanager
def _claimed(config: Config, fingerprint: str, wait: bool) -> Iterator[None]:
    try:
        with records.claim(config.results, config.name, fingerprint, wait=wait):
            yield
    except locks.Taken:
        print(f"{config.name}: another process is at it", flush=True)
        raise


def _run(config: Config, plain: dict[str, Any], fingerprint: str, command: str, quiet: bool) -> Record:
    print(f"{config.name}: {config.title}", flush=True)
    _prepare(config)
    with tracking.start(
        config.tracking,
        name=f"{config.name}-{fingerprint}",
        config=plain,
        group=config.name,
        tags=[config.name, config.scale, config.device],
        directory=config.results,
    ) as run:
        computing = time.monotonic()
        result = experiment_module(config.module).run(config, Progress(config.name, quiet=quiet))
        durations = {"run": time.monotonic() - computing}
        if spent := parts.spent(config):
            durations["parts"] = spent
        record = records.write(config.results, plain, result, command=command, durations=durations, force=config.force)
        figures = draw(config.module, record, record.figures)
        run.log_curves(result.cells, result.curves)
        run.summary(result.headline)
        run.log_figures({name: path.with_suffix(".png") for name, path in figures.items()})
    return record


def _tidy(config: Config, fingerprint: str, record: Record) -> None:
    """Clears up after a killed owner, and draws anew what other code has drawn: where nobody else is at it, and if
    it can be done."""
    left = [*record.path.parent.glob(f".*-{fingerprint}"), records.checkpoints(config.results, fingerprint)]
    left.append(parts.folder(config))
    if not any(path.exists() for path in left) and _drawn_by_this_code(record):
        return
    claim = records.claim(config.results, config.name, fingerprint, wait=False)
    with contextlib.suppress(locks.Taken, OSError), claim:
        redraw_if_needed(config.module, record)
        _clear(config, fingerprint)


def _clear(config: Config, fingerprint: str) -> None:
    """Removes the checkpoints and parts of a run that is recorded."""
    parts.clear(config)
    folder = records.checkpoints(config.results, fingerprint)
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # the last one


def _half_drawn(record: Record) -> bool:
    """Whether the figures are missing, or their drawing has not ended."""
    return not (record.figures / STAMP).exists() or _temporary(record.figures).exists()


def _drawn_by_this_code(record: Record) -> bool:
    return not _half_drawn(record) and (record.figures / STAMP).read_text() == _stamp(record)


def _stamp(record: Record) -> str:
    return f"{records.source_hash()} {record.note}"


def redraw_if_needed(module: str, record: Record) -> None:
    """Draws a record's figures beside it where they are missing or the code has changed since they were drawn."""
    if not _drawn_by_this_code(record):
        with records.claim(record.path.parents[2], record.experiment, record.fingerprint):
            if not _drawn_by_this_code(record):
                draw(module, record, record.figures)


def compute_part(config: Config, part: parts.Part) -> None:
    """Computes one part of a configuration's grid and leaves it for the run that puts them together.

    Who wants a part that another process is at waits for it, and has nothing left to do.
    """
    with misfortunes(config), locks.hold(parts.folder(config) / f".lock-{part[0]}-{part[1]}"):
        if part in parts.stored(config):
            return
        _prepare(config)
        with parts.only(part), contextlib.suppress(parts.Done):
            experiment_module(config.module).run(config, Progress(config.name, quiet=True))
            raise AssertionError(f"{config.module}.run has a grid_size but computes no parts")


def _help(config: Config) -> Record:
    """The share of a data-parallel run that a process other than the first has: it trains, the first one records."""
    _prepare(config)
    with contextlib.suppress(parts.Done):
        experiment_module(config.module).run(config, Progress(config.name, quiet=True))
        raise AssertionError(f"{config.module}.run does not train in parts")
    return Record(Path(config.results) / "runs" / config.name / records.fingerprint(config.plain()))


def draw(module: str, record: Record, folder: Path) -> dict[str, Path]:
    """Draws a record's figures into `folder`; returns their paths without suffix by name.

    Figures of a record of other code or libraries, or with cells that diverged, say so.
    """
    from repro import plotting

    paths = {}
    with plotting.style(), replacing(folder) as temporary:
        for name, figure in experiment_module(module).figures(record).items():
            if caveats := "; ".join(_caveats(record)):
                figure.suptitle(caveats, fontsize=5, color="0.4", x=0.995, ha="right")
            plotting.save(figure, temporary / name)
            paths[name] = folder / name
        if folder == record.figures:
            (temporary / STAMP).write_text(_stamp(record))
    return paths


def _caveats(record: Record) -> Iterator[str]:
    if record.note:
        yield f"record of {record.note}"
    diverged = record.cells.get("diverged", pd.Series(dtype=bool))
    if diverged.any():
        yield f"{diverged.sum()} of {len(diverged)} cells diverged and are left out"


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder whose files move into `folder` at the end of the block, each of them whole."""
    temporary = _temporary(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        folder.mkdir(exist_ok=True)
        for path in temporary.iterdir():
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(folder: Path) -> Path:
    return folder.with_name(f".tmp-{folder.name}")


_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


@contextlib.contextmanager
def misfortunes(config: Config) -> Iterator[None]:
    """Tells what goes wrong outside the program in one line.

    Raises:
        UserError: the results folder may not be written.
        DiskFull: the disk is full.
        Misfortune: memory has run out, or a training process was killed.
    """
    try:
        yield
    except OSError as error:
        where, reason = f"results={config.results}", os.strerror(error.errno or 0)
        mine, named = Path(config.results).absolute(), Path(str(error.filename or config.results)).absolute()
        if disk_is_full(error):
            raise DiskFull(
                f"{where}: the disk is full ({reason}); free some space or name another folder, then the same command "
                "goes on from here"
            ) from error
        refused = error.errno in _REFUSED or (error.errno == errno.ENOENT and not mine.exists())
        if refused and (mine in (named, *named.parents) or named in mine.parents):
            raise UserError(f"{where}: cannot be written ({reason}); name another folder") from error
        raise
    except concurrent.futures.process.BrokenProcessPool as error:
        raise Misfortune(
            f"{config.name}: a training process was killed, by the system if memory ran out; training.processes=1 "
            "takes least, and the same command goes on from the last epoch"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
            raise Misfortune(f"{config.name}: out of memory on device={config.device}; {_smaller(config)}") from error
        raise


def _smaller(config: Config) -> str:
    """What needs less memory."""
    if isinstance(config.training, NetworkTraining):
        less = f"training.batch_size below {config.training.batch_size}, model.width below {config.model.width}"
    else:
        less = f"fewer cells (seed, dropout.p, dropout.block_size) or model.width below {config.model.width}"
    return f"smaller: {less}" + (", or device=cpu" if config.device == "cuda" else "")


def one_after_another(plan: Sequence[Item], attempt: Callable[[Item, bool], None]) -> None:
    """Calls `attempt(item, wait)` for each of `plan`. One that another process is at (`locks.Taken`) comes again
    after the others, and is waited for once nothing else is left."""
    left, taken = deque(plan), 0
    while left:
        item = left.popleft()
        try:
            attempt(item, taken > len(left))
        except locks.Taken:
            left.append(item)
            taken += 1
        else:
            taken = 0


def report(record: Record) -> None:
    """Prints a record's headline and figures."""
    for line in headline(record.summary["headline"]):
        print(f"  {line}")
    for path in sorted(record.figures.glob("*.pdf")):
        print(f"  figure {path.with_suffix('')}.{{pdf,svg,png}}")


def headline(numbers: Mapping[str, Any]) -> list[str]:
    """`name value` lines, four digits."""
    return [f"{name} {'n/a' if value is None else f'{value:.4g}'}" for name, value in numbers.items()]


def _prepare(config: Config) -> None:
    training = config.training
    parallel = (training.devices, training.nodes) if isinstance(training, NetworkTraining) else (1, 1)
    distributed.check(*parallel)
    if config.threads is None and config.device == "cpu" and "torch" not in sys.modules:
        return  # the experiment imports it when it needs it
    import torch

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: this PyTorch cannot use the GPU; allowed: cpu")
