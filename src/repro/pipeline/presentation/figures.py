"""Every figure of every experiment from records alone: nothing is trained, torch is not imported."""

import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from repro.pipeline.plotting import SUFFIXES
from repro.pipeline.presentation.drawing import draw, replacing
from repro.pipeline.settings.look import Look
from repro.pipeline.store import Record, Run
from repro.pipeline.store.integrity import damage
from repro.pipeline.store.misfortunes import misfortunes
from repro.pipeline.system import locks
from repro.pipeline.system.signals import children_ignore_ctrl_c

Work = tuple[Run, Record, Path, Look]
"""A record to draw, the folder that takes its figures, and how they are to look."""
Drawn = tuple[dict[str, Path], list[str]]


def render_all(plan: Sequence[Run], *, look: Look | None = None, processes: int | None = None) -> int:
    """Draws the figures of each run's record into `results/figures/<experiment>/`, as `look` wants them.

    Says which record each figure is of, and for a missing record which command makes it. Two experiments of
    the same name write the same files; the last one stays.

    Returns the exit code: 1 if a figure failed to draw, or if there was no record at all; else 0.
    """
    found: list[Work] = []
    for run in plan:
        with misfortunes(run.config):
            record = run.record()
        if record is None:
            path = run.place.path
            why = f"damaged record {path} ({damage(path)})" if path.exists() else "no record of this configuration"
            print(f"{run.config.name}: {why}; to make it: {run.command}")
        else:
            found.append((run, record, run.results / "figures" / run.config.name, look or Look()))
    failed = 0
    for (_, record, *_), drawn in zip(found, _drawn(found, processes), strict=True):
        paths, wrong = drawn()
        for path in paths.values():
            print(_line(path, record), flush=True)
        failed += len(wrong)
    if not found:
        print("no figure drawn: no record yet; `make reproduce-all` makes them all", file=sys.stderr)
    return 1 if failed or not found else 0


def collect(record: Record) -> None:
    """Copies the figures that lie beside a record to `results/figures/<experiment>/`, and says so."""
    if not record.figures.exists():
        return
    folder = record.path.parents[2] / "figures" / record.experiment
    with _alone(folder), replacing(folder) as temporary:
        for path in record.figures.iterdir():
            if path.suffix in SUFFIXES:
                shutil.copyfile(path, temporary / path.name)
    for path in sorted(record.figures.glob("*.pdf")):
        print(_line(folder / path.stem, record), flush=True)


def _line(figure: Path, record: Record) -> str:
    return f"{figure}.{{pdf,svg,png}} of record {record.path}" + (f" ({record.note})" if record.note else "")


def _alone(folder: Path) -> AbstractContextManager[bool]:
    """Two processes do not draw into one folder at once."""
    return locks.hold(folder.with_name(f".lock-{folder.name}"))


def _draw_alone(run: Run, record: Record, folder: Path, look: Look) -> Drawn:
    with _alone(folder):
        return draw(run, record, folder, look)


def _drawn(found: Sequence[Work], processes: int | None) -> list[Callable[[], Drawn]]:
    """For each of `found` a function that returns what `draw` does, in order. Drawn side by side: it is
    Matplotlib's own work that takes the time."""
    workers = min(len(found), processes or len(os.sched_getaffinity(0)))
    if workers <= 1:
        return [partial(_draw_alone, *work) for work in found]
    # spawn: a fork would copy the locks of whatever threads the caller has
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, children_ignore_ctrl_c():
        futures: list[Future[Drawn]] = [pool.submit(_draw_alone, *work) for work in found]
    return [future.result for future in futures]
