"""Draws the figures of one record."""

import contextlib
import shutil
import sys
import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from repro.pipeline import plotting
from repro.pipeline.experiment import experiment
from repro.pipeline.presentation.drawn import STAMP, drawn_by_this_code, stamp, temporary
from repro.pipeline.settings.look import Look
from repro.pipeline.store import Record, Run
from repro.pipeline.system.errors import UserError


def draw(run: Run, record: Record, folder: Path, look: Look | None = None) -> tuple[dict[str, Path], list[str]]:
    """Draws a record's figures into `folder`; returns their paths without suffix by name, and those that failed.

    A figure that fails costs none of the others: its traceback is printed, with a line that names it. Figures of a
    record with cells that diverged say so; without titles, the terminal does.

    Raises:
        UserError: `look.only` names a figure that there is not.
    """
    look = look or Look()
    paths: dict[str, Path] = {}
    failed: list[str] = []
    with plotting.style(look), replacing(folder) as place:
        try:
            found = dict(experiment(run.config).figures(record))
        except Exception as error:
            _failed(record, "figures", error, failed)
            found = {}
        if unknown := [name for name in look.only or () if name not in found and not failed]:
            raise UserError(f"figure.only={unknown[0]}: {record.experiment} has {', '.join(found)}")
        for name in look.only or found:
            try:
                figure = cast(Figure, found[name]())
                _annotate(figure, record, look, name)
                plotting.save(figure, place / name)
            except Exception as error:
                _failed(record, name, error, failed)
            else:
                paths[name] = folder / name
        if folder == record.figures:
            (place / STAMP).write_text("\n".join([stamp(record), *failed]))
    return paths, failed


def _failed(record: Record, name: str, error: Exception, failed: list[str]) -> None:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and not isinstance(error, FileNotFoundError)):
        raise error  # nothing that the figure is to blame for
    traceback.print_exc()
    print(f"{record.experiment}: figure {name} failed, traceback above; the record is whole", file=sys.stderr)
    failed.append(name)


def _annotate(figure: Figure, record: Record, look: Look, name: str) -> None:
    """What a reader must know stands above a figure."""
    caveats = "; ".join(filter(None, (figure.get_suptitle(), *_caveats(record))))
    if not look.titles:
        figure.suptitle("")
        for axes in figure.axes:
            axes.set_title("")
        if caveats:
            print(f"{record.experiment}, {name}: {caveats}")
    elif caveats:
        size = 0.62 * float(mpl.rcParams["font.size"])
        lines = textwrap.wrap(caveats, int(figure.get_figwidth() * 72 / (0.55 * size)))
        figure.suptitle("\n".join(lines), fontsize=size, color="0.4", x=0.995, ha="right")


def redraw_if_needed(run: Run, record: Record) -> None:
    """Draws a record's figures beside it where they are missing or the code has changed since they were drawn."""
    if not drawn_by_this_code(record):
        with run.claim():
            if not drawn_by_this_code(record):
                draw(run, record, record.figures)


def _caveats(record: Record) -> Iterator[str]:
    diverged = record.cells.get("diverged", pd.Series(dtype=bool))
    if diverged.any():
        yield f"{diverged.sum()} of {len(diverged)} cells diverged and are left out"


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder whose files move into `folder` at the end of the block, each of them whole."""
    place = temporary(folder)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
        folder.mkdir(exist_ok=True)
        for path in place.iterdir():
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(place, ignore_errors=True)
