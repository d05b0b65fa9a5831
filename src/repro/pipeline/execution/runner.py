"""One run, answered from its record or made anew. Light: what it takes to make one is imported when one is made."""

import contextlib
import importlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

from repro.pipeline.presentation.drawn import drawn_by_this_code, failed, half_drawn
from repro.pipeline.presentation.headline import headline
from repro.pipeline.store import Record, Run
from repro.pipeline.store.misfortunes import misfortunes
from repro.pipeline.system import distributed, locks
from repro.pipeline.system.progress import clock

Item = TypeVar("Item")


@dataclass(frozen=True)
class Outcome:
    """A run's record, whether it was there already, and the seconds that this call took."""

    record: Record
    cached: bool
    seconds: float


def execute(run: Run, *, quiet: bool = False, wait: bool = True) -> Outcome:
    """Makes a run's record, unless it exists and `config.force` is false.

    Every run is one process's: others that want the same wait for it, and take its record. A run that fails or is
    interrupted leaves no record; W&B shows it as failed. `quiet` shows no progress. Raises `locks.Taken` where another
    process is at this run and `wait` is false, and a `UserError` or `Misfortune` that says in one line what to do.
    """
    started, name = time.monotonic(), run.config.name
    if distributed.rank() != 0:
        found = run.wanted()
        return Outcome(found or heavy("making").help(run), found is not None, time.monotonic() - started)
    with misfortunes(run.config):
        found = run.wanted()
        if found is None or (run.config.figures and half_drawn(found)):
            with _claimed(run, wait):
                found = run.wanted()  # whoever had the claim before may have left the record
                if found is None:
                    if why := run.outdated:
                        print(why, flush=True)
                    record = heavy("making").make(run, quiet)
                    run.clear()
                    for line in headline(record.summary["headline"]):
                        print(f"  {line}")
                    for path in sorted(record.figures.glob("*.pdf")):
                        print(f"  figure {path.with_suffix('')}.{{pdf,svg,png}}")
                    seconds = time.monotonic() - started
                    print(f"{name}: done in {clock(seconds)}, record {record.path}", flush=True)
                    return Outcome(record, False, seconds)
                heavy("making").redraw_if_needed(run, found)
    _tidy(run, found)
    note = f"; note: {found.note}" if found.note else "" if found.compared else "; of code not compared with this"
    note += f"; not drawn: {', '.join(wrong)}" if (wrong := failed(found)) else ""
    anew = "other_code=rerun" if found.other_code else "force=true"
    print(f"{name}: cached in {found.path} ({anew} runs it anew){note}", flush=True)
    return Outcome(found, True, time.monotonic() - started)


def heavy(name: str) -> ModuleType:
    """A module of this folder, by name: what is answered from a record needs neither torch nor Matplotlib nor W&B."""
    return importlib.import_module(f"{__package__}.{name}")


@contextlib.contextmanager
def _claimed(run: Run, wait: bool) -> Iterator[None]:
    try:
        with run.claim(wait=wait):
            yield
    except locks.Taken:
        print(f"{run.config.name}: another process is at it", flush=True)
        raise


def _tidy(run: Run, record: Record) -> None:
    """Clears up after a killed owner, and draws anew what other code has drawn: where nobody else is at it, and if
    it can be done."""
    old = run.config.figures and not drawn_by_this_code(record)
    if not run.leftovers() and not old:
        return
    with contextlib.suppress(locks.Taken, OSError), run.claim(wait=False):
        if old:
            heavy("making").redraw_if_needed(run, record)
        run.clear()


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
