"""Every figure of every experiment from records alone: nothing is trained, torch is not imported."""

import multiprocessing
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from repro.pipeline.plotting import SUFFIXES
from repro.pipeline.presentation.drawing import draw, replacing
from repro.pipeline.store import Record, Run
from repro.pipeline.store.integrity import damage
from repro.pipeline.store.misfortunes import misfortunes
from repro.pipeline.system import locks
from repro.pipeline.system.errors import disk_is_full
from repro.pipeline.system.signals import children_ignore_ctrl_c

Work = tuple[Run, Record, Path]
"""A record to draw, and the folder that takes its figures."""


def render_all(plan: Sequence[Run], *, processes: int | None = None) -> int:
    """Draws the figures of each run's record into `results/figures/<experiment>/`.

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
            found.append((run, record, run.results / "figures" / run.config.name))
    failed = 0
    for (_, record, _), drawn in zip(found, _drawn(found, processes), strict=True):
        try:
            for path in drawn().values():
                print(_line(path, record), flush=True)
        except Exception as error:
            if disk_is_full(error):
                raise
            failed += 1
            traceback.print_exc()
            print(f"{record.experiment}: no figures of {record.path}, traceback above", file=sys.stderr)
    if not found:
        print("no figure drawn: no record yet; `make reproduce-all` makes them all", file=sys.stderr)
    return 1 if failed or not found else 0


def collect(found: Sequence[Record]) -> None:
    """Copies the figures that lie beside each record to `results/figures/<experiment>/`, and says so."""
    for record in found:
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


def _draw_alone(run: Run, record: Record, folder: Path) -> dict[str, Path]:
    with _alone(folder):
        return draw(run, record, folder)


def _drawn(found: Sequence[Work], processes: int | None) -> list[Callable[[], dict[str, Path]]]:
    """For each of `found` a function that returns the figures' paths, in order. Drawn side by side: it is
    Matplotlib's own work that takes the time."""
    workers = min(len(found), processes or len(os.sched_getaffinity(0)))
    if workers <= 1:
        return [partial(_draw_alone, *work) for work in found]
    # spawn: a fork would copy the locks of whatever threads the caller has
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, children_ignore_ctrl_c():
        futures: list[Future[dict[str, Path]]] = [pool.submit(_draw_alone, *work) for work in found]
    return [future.result for future in futures]
