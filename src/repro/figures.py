"""Every figure of every experiment from records alone: nothing is trained, torch is not imported."""

import multiprocessing
import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from repro import composition, locks, records
from repro.cli import again
from repro.config import Config
from repro.errors import UserError, disk_is_full
from repro.plotting import SUFFIXES
from repro.records import Record
from repro.runner import draw, misfortunes, replacing
from repro.signals import children_ignore_ctrl_c


def render_all(plan: Sequence[tuple[Config, Sequence[str]]], *, processes: int | None = None) -> int:
    """Draws the figures of each (configuration, its overrides) into `results/figures/<experiment>/`.

    Says which record each figure is of, and for a missing record which command makes it. Two experiments of
    the same name write the same files; the last one stays.

    Returns the exit code: 1 if a figure failed to draw, or if there was no record at all; else 0.
    """
    found, missing = [], 0
    for config, overrides in plan:
        with misfortunes(config):
            record = records.find(config.results, config.name, records.fingerprint(config.plain()))
        if record is None:
            missing += 1
            path = Path(config.results, "runs", config.name, records.fingerprint(config.plain()))
            damaged = f"damaged record {path} ({records.damage(path)})"
            why = damaged if path.exists() else "no record of this configuration"
            print(f"{config.name}: {why}; to make it: {again(overrides, config)}")
        else:
            found.append((config.module, record, Path(config.results) / "figures" / config.name))
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
    if missing and not found:
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


def _draw_alone(module: str, record: Record, folder: Path) -> dict[str, Path]:
    with _alone(folder):
        return draw(module, record, folder)


def _drawn(found: Sequence[tuple[str, Record, Path]], processes: int | None):  # type: ignore[no-untyped-def]
    """For each of `found` a function that returns the figures' paths, in order. Drawn side by side: it is
    Matplotlib's own work that takes the time."""
    workers = min(len(found), processes or len(os.sched_getaffinity(0)))
    if workers <= 1:
        return [lambda work=work: _draw_alone(*work) for work in found]
    # spawn: a fork would copy the locks of whatever threads the caller has
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, children_ignore_ctrl_c():
        futures: list[Future[dict[str, Path]]] = [pool.submit(_draw_alone, *work) for work in found]
    return [future.result for future in futures]


def plan(
    overrides: Sequence[str], extra: Path | None = None, *, elsewhere: bool = False
) -> list[tuple[Config, list[str]]]:
    """The configurations that `overrides` ask for: every experiment, or those of `experiment=a,b`.

    Raises:
        UserError: where an override does not fit an experiment, naming it; nothing has run by then.
    """
    named = any(text.split("=")[0] == "experiment" for text in overrides)
    every = f"experiment={','.join(composition.experiments(extra or composition.CONF))}"
    jobs = composition.jobs([*([] if named else [every]), *overrides], multirun=True, extra=extra)
    plan: list[tuple[Config, list[str]]] = []
    mistakes: dict[str, list[str]] = {}
    for job in jobs:
        try:
            plan.append((composition.load(job, extra=extra, elsewhere=elsewhere), job))
        except UserError as mistake:
            name = next(text.partition("=")[2] for text in job if text.startswith("experiment="))
            mistakes.setdefault(str(mistake), []).append(name)
    if mistakes:
        lines = [f"{text} (in {', '.join(names)})" if not named else text for text, names in mistakes.items()]
        raise UserError("; ".join(lines))
    return plan
