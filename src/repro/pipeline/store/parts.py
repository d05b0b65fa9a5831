"""A grid in parts, which several processes compute apart and one puts together.

An experiment trains the cells of its grid through `Parts.each`: by itself that is one call over all of them. A worker
that was given one part (`only`) computes it, leaves it in `results/parts/<fingerprint>/<code>/` and stops (`Done`).
The run that follows takes what lies there and computes what is missing: a part whose worker died costs that part alone.
"""

import contextlib
import io
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from repro.pipeline.system import distributed

Part = tuple[int, int]
"""The cells from the first number up to, not including, the second."""

_part: ContextVar[tuple[Part, bool] | None] = ContextVar("part", default=None)


class Piece(NamedTuple):
    """What some cells of a grid have come to: rows, and arrays whose first dimension goes over those cells."""

    table: pd.DataFrame
    arrays: Mapping[str, np.ndarray] = {}


class Done(Exception):
    """This process has done its share of a run that another one completes; `seconds` tells how long it took."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


@contextlib.contextmanager
def only(part: Part, *, keep: bool = True) -> Iterator[None]:
    """Inside, `each` computes `part` alone, stores it where it is to `keep`, and raises `Done`."""
    token = _part.set((part, keep))
    try:
        yield
    finally:
        _part.reset(token)


class Parts:
    """The parts of one run's grid that this code has computed, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def each(self, work: Callable[[int, int], Piece], count: int) -> Piece:
        """work(start, stop) over all of `count` cells in order, put together: what is stored, and the rest computed.
        Raises `Done` in a process that was given one part, or that is not the first of a data-parallel run."""
        started = time.monotonic()
        if (given := _part.get()) is not None:
            part, keep = given
            computed = work(*part)
            seconds = time.monotonic() - started
            if keep:
                self._store(part, computed, seconds)
            raise Done(seconds)
        here = self.stored()
        pieces = [self._load(part) if part in here else work(*part) for part in _with_gaps(here, count)]
        if distributed.rank() != 0:
            raise Done(time.monotonic() - started)
        return _together(pieces)

    def stored(self) -> list[Part]:
        """Those that wait to be put together, in order."""
        names = (path.stem.split("-") for path in self.folder.glob("*.npz"))
        return sorted((int(start), int(stop)) for start, stop in names)

    def spent(self) -> float:
        """Seconds that the stored parts took, over all workers."""
        found = 0.0
        for part in self.stored():
            with np.load(self._file(part), allow_pickle=False) as content:
                found += float(content["seconds"])
        return found

    def lock(self, part: Part) -> Path:
        """Held by who computes a part."""
        return self.folder / f".lock-{part[0]}-{part[1]}"

    def _file(self, part: Part) -> Path:
        return self.folder / f"{part[0]}-{part[1]}.npz"

    def _store(self, part: Part, piece: Piece, seconds: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".tmp-{uuid.uuid4().hex}"
        table = np.frombuffer(piece.table.to_parquet(index=False), np.uint8)
        arrays = {f"array {name}": array for name, array in piece.arrays.items()}
        try:
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, seconds=np.float64(seconds), table=table, **arrays)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._file(part))
        finally:
            temporary.unlink(missing_ok=True)

    def _load(self, part: Part) -> Piece:
        with np.load(self._file(part), allow_pickle=False) as content:
            table = pd.read_parquet(io.BytesIO(content["table"].tobytes()))
            return Piece(table, {name[6:]: content[name] for name in content if name.startswith("array ")})


def _with_gaps(here: Sequence[Part], count: int) -> list[Part]:
    """The stored parts and what lies between them, from 0 to `count`; one of two that overlap is left out."""
    cover, end = [], 0
    for start, stop in here:
        if start < end or stop > count:
            continue
        cover += [(end, start), (start, stop)] if start > end else [(start, stop)]
        end = stop
    return cover + ([(end, count)] if end < count else [])


def _together(pieces: Sequence[Piece]) -> Piece:
    """One piece; rows of matrices that are shorter in some pieces end in NaN."""
    arrays = {}
    for name in pieces[0].arrays:
        found = [piece.arrays[name] for piece in pieces]
        if len({array.shape[1:] for array in found}) > 1:
            width = max(array.shape[1] for array in found)
            found = [np.pad(a, ((0, 0), (0, width - a.shape[1])), constant_values=np.nan) for a in found]
        arrays[name] = np.concatenate(found)
    return Piece(pd.concat([piece.table for piece in pieces], ignore_index=True), arrays)
