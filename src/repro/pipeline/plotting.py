"""The style of the figures: one look, column width, readable in print, safe for colour-blind readers.

Theory is always drawn as lines and measurement as markers; a band is the mean ± one standard deviation over seeds.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike

SUFFIXES = (".pdf", ".svg", ".png")
"""The files of a figure."""
COLUMN = 3.35
"""Width of one column of a two-column paper, inches."""
PAGE = 6.9
"""Width of both columns, inches."""

# Okabe and Ito's colours in an order in which neighbours differ in lightness too; yellow is left out.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]

_STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 8,
    "font.family": "serif",
    "mathtext.fontset": "dejavuserif",
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.linewidth": 0.3,
    "grid.alpha": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",  # a page that carries the figure need not carry its fonts
    "svg.hashsalt": "repro",  # the same figure gives the same file
}


@contextmanager
def style() -> Iterator[None]:
    """Draw everything inside in the project's style, without a display."""
    mpl.use("Agg")
    with mpl.rc_context(_STYLE):
        yield


def panels(count: int, *, columns: int = 4, height: float = 1.75, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure as wide as the page (one column's width for one panel) with `count` axes in a grid."""
    columns = min(columns, count)
    rows = -(-count // columns)
    width = COLUMN if count == 1 else PAGE
    figure = Figure(figsize=(width, height * rows + (0.5 if count == 1 else 0.35)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared).flatten()
    for unused in axes[count:]:
        unused.remove()
    return figure, list(axes[:count])


def save(figure: Figure, path: Path | str) -> list[Path]:
    """Write `path`.pdf, `path`.svg and `path`.png; returns the paths."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
    for axes in figure.axes:
        # Unlabelled minor ticks of logarithmic axes are most of what there is to draw, and say little.
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_locator(NullLocator())
    # The layout is the same in both files, and finding it takes longer than drawing.
    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
        figure.set_layout_engine(None)  # one that does nothing would still cost a second drawing
    # Without dates in it, the same record gives the same file.
    figure.savefig(files[0], metadata={"CreationDate": None})
    figure.savefig(files[1], metadata={"Date": None})
    svg = files[1].read_text(encoding="utf-8")
    files[1].write_text(_COORDINATES.sub(lambda found: _DIGITS.sub(r"\1", found[0]), svg), encoding="utf-8")
    figure.savefig(files[2])
    return files


# Matplotlib writes coordinates to a millionth of a point.
_COORDINATES, _DIGITS = re.compile(r' (?:d|x|y)="[^"]*"'), re.compile(r"(\.\d\d)\d+")


def surviving(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of cells that have not diverged; the runner writes above the figure how many there are."""
    return rows[~rows.diverged.astype(bool)] if "diverged" in rows else rows


def over_seeds(rows: pd.DataFrame, by: str | Sequence[str], value: str) -> pd.DataFrame:
    """Mean and standard deviation (0 for a single seed) of `value` over the rows of each group: `mean`, `std`."""
    table = rows.groupby(by)[value].agg(["mean", "std"]).reset_index()
    table["std"] = table["std"].fillna(0.0)
    return table


def band(axes: Axes, x: ArrayLike, mean: ArrayLike, std: ArrayLike, color: str) -> None:
    """Shade mean ± std; on a logarithmic axis the lower edge stays positive."""
    mean, std = np.asarray(mean), np.asarray(std)
    lower = mean - std
    if axes.get_yscale() == "log":
        lower = np.maximum(lower, mean / 10)
    axes.fill_between(np.asarray(x), lower, mean + std, color=color, alpha=0.18, linewidth=0)


def plain_log_ticks(axes: Axes) -> None:
    """Label a logarithmic y axis 1, 2, 5, 10, …: readable where the values span a decade or two."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """One legend for all panels, under them, in as few rows as its width allows."""
    for rows in range(1, len(handles) + 1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=-(-len(handles) // rows))
        if legend.get_window_extent().width <= figure.bbox.width or rows == len(handles):
            return
        legend.remove()
