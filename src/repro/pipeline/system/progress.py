"""Progress with the time left: a bar on a terminal, plain lines where there is none."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, cast, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

INTERVAL = 10.0  # seconds between two plain lines: often enough to see life, seldom enough for a log file


Rows = Sequence[Mapping[str, object]]


@runtime_checkable
class Watcher(Protocol):
    """Who is shown the curves while they are measured."""

    def begin(self) -> None:
        """Something begins to train."""

    def watch(self, cells: Rows) -> None:
        """The cells of which `see` will show rows: `cell`, its number, and its settings."""

    def see(self, rows: Rows) -> None:
        """Rows of the curves, as they come: `cell`, `step` and what was measured."""


class Progress:
    """A piece of work of `total` steps.

        with Progress("training", total=steps) as bar:
            bar.advance(10)

    A piece may have phases, each shown by itself: `with progress.phase("SGD", total=steps) as bar`. With
    `quiet` nothing is shown. Lines and bars go to stderr, so that stdout stays for results. Where there is a `watcher`,
    it sees the curves of what trains under `watched`.
    """

    def __init__(
        self, title: str, total: int | None = None, *, quiet: bool = False, watcher: Watcher | None = None
    ) -> None:
        self.title, self.total, self.quiet = title, total, quiet
        self._watcher = watcher
        self._first: int | None = None  # of the cells that are watched
        self.done = 0
        self._bar: Bar | None = None
        self._started = self._shown = time.monotonic()

    def phase(self, title: str, total: int) -> "Progress":
        if self._watcher is not None:
            self._watcher.begin()
        return Progress(f"{self.title}: {title}", total, quiet=self.quiet)

    @contextmanager
    def watched(self, cells: Rows, first: int = 0) -> Iterator[None]:
        """Inside, `log` shows the curves of these cells, which are those of the record; cell 0 of what is logged is
        number `first` of them."""
        if self._watcher is not None:
            self._watcher.watch(cells)
            self._first = first
        try:
            yield
        finally:
            self._first = None

    def log(self, rows: Rows) -> None:
        """Some rows of the curves, to whoever watches."""
        if self._watcher is not None and self._first is not None:
            self._watcher.see([{**row, "cell": cast(int, row["cell"]) + self._first} for row in rows])

    def say(self, text: str) -> None:
        """A line of text that leaves a bar whole."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        if self._bar is not None:
            self._bar.advance(self._task, steps)
        elif not self.quiet and time.monotonic() - self._shown >= INTERVAL:
            self._shown = time.monotonic()
            if self.total and self.done:
                left = (self._shown - self._started) * (self.total - self.done) / self.done
                share = f"{100 * self.done / self.total:.0f} %"
                self.say(f"{self.title}: {self.done:,} of {self.total:,} ({share}), {clock(max(left, 0))} left")

    def __enter__(self) -> "Progress":
        self._started = self._shown = time.monotonic()
        if self.quiet or self.total is None:
            return self
        if sys.stderr.isatty():
            shows = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("· left"))
            self._bar = Bar(*shows, TimeRemainingColumn(), console=Console(stderr=True))
            self._task = self._bar.add_task(self.title, total=self.total)
            self._bar.start()
        else:
            self.say(f"{self.title}: {self.total:,} to do")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self.total is not None and kind is None:
            self.say(f"{self.title}: done in {clock(time.monotonic() - self._started)}")


def clock(seconds: float) -> str:
    """`4.2 s`, `3 min 05 s`, `2 h 10 min`: as exact as one cares to read."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
