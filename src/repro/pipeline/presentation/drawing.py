"""Draws the figures of one record."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pandas as pd
from matplotlib.figure import Figure

from repro.pipeline import plotting
from repro.pipeline.experiment import experiment
from repro.pipeline.presentation.drawn import STAMP, drawn_by_this_code, stamp, temporary
from repro.pipeline.store import Record, Run


def draw(run: Run, record: Record, folder: Path) -> dict[str, Path]:
    """Draws a record's figures into `folder`; returns their paths without suffix by name.

    Figures of a record of other code or libraries, or with cells that diverged, say so.
    """
    paths = {}
    with plotting.style(), replacing(folder) as place:
        for name, figure in cast(dict[str, Figure], experiment(run.config).figures(record)).items():
            if caveats := "; ".join(filter(None, (figure.get_suptitle(), *_caveats(record)))):
                figure.suptitle(caveats, fontsize=5, color="0.4", x=0.995, ha="right")
            plotting.save(figure, place / name)
            paths[name] = folder / name
        if folder == record.figures:
            (place / STAMP).write_text(stamp(record))
    return paths


def redraw_if_needed(run: Run, record: Record) -> None:
    """Draws a record's figures beside it where they are missing or the code has changed since they were drawn."""
    if not drawn_by_this_code(record):
        with run.claim():
            if not drawn_by_this_code(record):
                draw(run, record, record.figures)


def _caveats(record: Record) -> Iterator[str]:
    if record.note:
        yield f"record of {record.note}"
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
