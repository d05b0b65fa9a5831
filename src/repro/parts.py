"""A grid in parts, which several processes compute apart and one puts together.

An experiment trains the cells of its grid through `each`: by itself that is one call over all of them. A worker that
was given one part (`only`) computes it, leaves it in `results/parts/<fingerprint>/<code>/` and stops there (`Done`).
The run that follows takes what lies there and computes what is missing: a part whose worker died costs that part alone.
"""

import contextlib
import os
import pickle
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from repro import distributed, records
from repro.config import Config

Computed = TypeVar("Computed")
Part = tuple[int, int]
"""The cells from the first number up to, not including, the second."""

_part: ContextVar[tuple[Part, bool] | None] = ContextVar("part", default=None)
_worker: ContextVar[bool] = ContextVar("worker", default=False)


class Done(Exception):
    """This process has done its share of a run that another one completes; `seconds` tells how long it took."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


@contextlib.contextmanager
def worker() -> Iterator[None]:
    """Inside, this process is one of several on its machine: it starts no further ones."""
    token = _worker.set(True)
    try:
        yield
    finally:
        _worker.reset(token)


def in_worker() -> bool:
    return _worker.get()


@contextlib.contextmanager
def only(part: Part, *, keep: bool = True) -> Iterator[None]:
    """Inside, `each` computes `part` alone, stores it where it is to `keep`, and raises `Done`."""
    token = _part.set((part, keep))
    try:
        yield
    finally:
        _part.reset(token)


def each(work: Callable[[int, int], Computed], count: int, config: Config) -> list[Computed]:
    """work(start, stop) over all of `count` cells in order: what is stored, and the rest computed here.

    Raises:
        Done: in a process that was given one part, or that is not the first of a data-parallel run.
    """
    if (given := _part.get()) is not None:
        part, keep = given
        started, computed = time.monotonic(), work(*part)
        seconds = time.monotonic() - started
        if keep:
            _store(config, part, computed, seconds)
        raise Done(seconds)
    here, started = stored(config), time.monotonic()
    found = [_load(_file(config, p))[1] if p in here else work(*p) for p in _with_gaps(here, count)]
    if distributed.rank() != 0:
        raise Done(time.monotonic() - started)
    return found


def stored(config: Config) -> list[Part]:
    """The parts of this configuration, computed by this code, that wait to be put together, in order."""
    return sorted((int(start), int(stop)) for start, stop in (p.stem.split("-") for p in folder(config).glob("*.pkl")))


def spent(config: Config) -> float:
    """Seconds that the stored parts took, over all workers."""
    return sum((_load(_file(config, part), seconds_only=True)[0] for part in stored(config)), start=0.0)


def clear(config: Config) -> None:
    """Removes the parts of a configuration, once its record is written."""
    mine = folder(config).parent
    shutil.rmtree(mine, ignore_errors=True)
    with contextlib.suppress(OSError):
        mine.parent.rmdir()  # the last one's folder


def _with_gaps(here: list[Part], count: int) -> list[Part]:
    """The stored parts and what lies between them, from 0 to `count`; one of two that overlap is left out."""
    cover, end = [], 0
    for start, stop in here:
        if start < end or stop > count:
            continue
        cover += [(end, start)] if start > end else []
        cover.append((start, stop))
        end = stop
    return cover + ([(end, count)] if end < count else [])


def folder(config: Config) -> Path:
    """Where the parts of a configuration wait that were computed by this code."""
    code = records.source_hash()[:12]
    return Path(config.results) / "parts" / records.fingerprint(config.plain()) / code


def _file(config: Config, part: Part) -> Path:
    return folder(config) / f"{part[0]}-{part[1]}.pkl"


def _store(config: Config, part: Part, computed: object, seconds: float) -> None:
    path = _file(config, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".tmp-{uuid.uuid4().hex}")
    with temporary.open("wb") as file:
        pickle.dump(seconds, file)
        pickle.dump(computed, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _load(path: Path, *, seconds_only: bool = False) -> tuple[float, Any]:
    with path.open("rb") as file:  # written by this code, for itself
        return pickle.load(file), None if seconds_only else pickle.load(file)
