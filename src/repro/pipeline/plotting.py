"""The style of the figures: one look, column width, readable in print, safe for colour-blind readers.

Theory is always drawn as lines and measurement as markers; a band is the mean ± one standard deviation over seeds.
What a reader asks for (`Look`) holds within `style(look)`.
"""

import io
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib import style as style_sheets
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    LogFormatterMathtext,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import ArrayLike

from repro.pipeline.settings.look import MOST_PANELS, MOST_SERIES, Look
from repro.pipeline.system.errors import UserError

Item = TypeVar("Item")
Other = TypeVar("Other")
Value: TypeAlias = Any
"""What Matplotlib takes by keyword."""

SUFFIXES = (".pdf", ".svg", ".png")
"""The files of a figure."""
COLUMN = 3.35
"""Width of one column of a two-column paper, inches."""
PAGE = 6.9
"""Width of both columns, inches."""
FONT = 8
"""Points."""
NAMED = 12
"""A legend names every one of so many ordered values; of more, some, in whose order the colours run."""

# Okabe and Ito's colours in an order in which neighbours differ in lightness too; yellow is left out.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
# More series than colours take theirs from this part of a map, all of which is dark enough for white paper.
MAP, DARK = "plasma", 0.76
Drawings = Mapping[str, Callable[[], Figure]]
"""What an experiment's `figures` returns: what draws each, by name; one that fails costs none of the others."""
MEASURED: dict[str, Value] = {"linestyle": "none", "markerfacecolor": "white"}
"""How a measurement is marked."""
DASHED = (0, (3, 2))

_STYLE: Value = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": FONT,
    "font.family": "serif",
    "mathtext.fontset": "dejavuserif",
    "axes.titlesize": "medium",
    "axes.labelsize": "medium",
    "legend.fontsize": "small",
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
    "axes.prop_cycle": cycler(color=COLORS),
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


_LOOK: ContextVar[Look] = ContextVar("look")


@contextmanager
def style(look: Look | None = None) -> Iterator[None]:
    """Draw everything inside in the project's style, as `look` changes it, without a display."""
    look = look or Look()
    mpl.use("Agg")
    token = _LOOK.set(look)
    try:
        with mpl.rc_context():
            mpl.rcdefaults()  # whatever a matplotlibrc of the user's says
            mpl.rcParams.update(_STYLE)
            if look.style:
                style_sheets.use(look.style)
            if look.font:
                mpl.rcParams["font.size"] = look.font
            yield
    finally:
        _LOOK.reset(token)


def check(look: Look) -> None:
    """A `UserError` for a style that Matplotlib cannot read, or reads only in part."""
    if look.style is None:
        return
    told = io.StringIO()
    listener = logging.StreamHandler(told)
    logging.getLogger("matplotlib").addHandler(listener)
    try:
        with mpl.rc_context():
            style_sheets.use(look.style)
    except (OSError, ValueError):
        raise UserError(
            f"figure.style={look.style}: must be a Matplotlib style file, or the name of a style of Matplotlib's own"
        ) from None
    finally:
        logging.getLogger("matplotlib").removeHandler(listener)
    if reason := " ".join(told.getvalue().split()):
        raise UserError(f"figure.style={look.style}: {reason}")


def styles(values: Iterable[Item]) -> list[tuple[str, str, Item]]:
    """A colour and a marker for each of `values`: those of the style while there are enough, else along a map."""
    items = list(values)
    colors = mpl.rcParams["axes.prop_cycle"].by_key().get("color", COLORS)
    if len(items) > len(colors):
        colors = mpl.colormaps[MAP](np.linspace(0, DARK, len(items)))
    return [(to_hex(colors[i]), MARKERS[i % len(MARKERS)], item) for i, item in enumerate(items)]


class Key:
    """A legend in the making: what is drawn and what it is called, in one list."""

    def __init__(self) -> None:
        self.entries: list[tuple[Line2D, str]] = []

    def add(self, name: str, **look: Value) -> None:
        """One entry; `look` as for a line."""
        self.entries.append((Line2D([], [], **{"color": "0.3", **look}), name))

    def series(self, names: Iterable[str], **look: Value) -> None:
        """An entry each in the colours and markers of `styles`, with `look` on top; of many values in order, some."""
        found = styles(names)
        if len(found) > NAMED and _ordered([name for *_, name in found]):
            found = [found[i] for i in _spread(len(found), NAMED // 2 + 1)]
        for color, marker, name in found:
            self.add(name, **{"color": color, "marker": marker, "linestyle": "none"} | look)

    def below(self, figure: Figure) -> None:
        """One legend for all panels, under them, in as few rows as the width allows; the figure grows with it."""
        if not self.entries:
            return
        handles, names = zip(*self.entries, strict=True)
        for rows in range(1, len(names) + 1):
            legend = figure.legend(handles, names, loc="outside lower center", ncols=-(-len(names) // rows))
            extent = legend.get_window_extent()
            if extent.width <= figure.bbox.width or rows == len(names):
                break
            legend.remove()
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + extent.height / figure.dpi * (1 - 1 / rows))


def _ordered(names: Sequence[str]) -> bool:
    """Whether names differ in one number alone, as values of one quantity do."""
    parts = [re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", name) for name in names]
    return len({len(part) for part in parts}) == 1 and sum(len(set(some)) > 1 for some in zip(*parts, strict=True)) == 1


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, evenly, with both ends."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def some(
    series: Mapping[Item, Other], figure: Figure, *, most: int = MOST_SERIES, what: str = "series"
) -> dict[Item, Other]:
    """Those of the series that a panel has room for, evenly chosen; the figure says how many they are."""
    items = list(series.items())
    found = dict(items[i] for i in _spread(len(items), most))
    if len(found) < len(items):
        note(figure, f"{len(found)} of {len(items)} {what} are drawn")
    return found


def note(figure: Figure, text: str) -> None:
    """Says something above a figure, after what is said there already."""
    figure.suptitle("; ".join(filter(None, (figure.get_suptitle(), text))))


def panels(
    count: int, *, columns: int = 4, rows: int = 1, height: float = 1.75, **shared: Value
) -> tuple[Figure, list[Axes]]:
    """A figure as wide as the page (one column's width for one panel; or as asked) with `count` axes in a grid.

    Args:
        count: of panels; as many to a line as the width has room for.
        columns: at most so many to a line.
        rows: of axes that a panel has, one above the other.
        height: of an axes, inches.
        shared: `sharex`, `sharey`, as `Figure.subplots` takes them.

    Returns:
        The figure, and its axes: the first of each panel, then the second, …
    """
    width = _LOOK.get(Look()).width or (COLUMN if count == 1 else PAGE)
    scale = float(mpl.rcParams["font.size"]) / FONT
    columns = max(1, min(columns, count, int(width / (1.4 * scale))))
    lines = -(-count // columns)
    size = (width, scale * (height * lines * rows + (0.5 if count == 1 else 0.35)))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines * rows, columns, squeeze=False, **shared)
    found = grid.reshape(lines, rows, columns).swapaxes(0, 1).reshape(rows, -1)
    for unused in found[:, count:].flatten():
        unused.remove()
    for lowest in found[-1, max(0, count - columns) : count]:
        lowest.tick_params(labelbottom=True)
    return figure, list(found[:, :count].flatten())


def titled(titles: Mapping[Item, str], **arguments: Value) -> tuple[Figure, dict[Item, Axes]]:
    """`panels` with these titles, by the titles' keys; as many of them as a page has room for, and a note of it."""
    figure, (axes,) = stacked(titles, rows=1, **arguments)
    return figure, axes


def stacked(titles: Mapping[Item, str], *, rows: int, **arguments: Value) -> tuple[Figure, list[dict[Item, Axes]]]:
    """As `titled`, with `rows` axes in a panel, one above the other."""
    found = some(titles, aside := Figure(), most=MOST_PANELS, what="panels")
    figure, axes = panels(len(found), rows=rows, **arguments)
    if said := aside.get_suptitle():
        note(figure, said)
    lines = [dict(zip(found, axes[i : i + len(found)], strict=True)) for i in range(0, len(axes), len(found))]
    for key, title in found.items():
        lines[0][key].set_title(title)
    return figure, lines


def label_rows(axes: Iterable[Axes], label: str) -> None:
    """Labels the y axis of the first of each line of panels."""
    for axis in axes:
        if (place := axis.get_subplotspec()) is not None and place.is_first_col():
            axis.set_ylabel(label)


def share_y(axes: Collection[Axes]) -> None:
    """One range of y for axes that are drawn, labelled in the first of each line."""
    low, high = zip(*(axis.get_ylim() for axis in axes), strict=True)
    for axis in axes:
        place = axis.get_subplotspec()
        axis.set_ylim(min(low), max(high))
        axis.tick_params(labelleft=place is None or place.is_first_col())


def line(axis: Axes, x: ArrayLike, y: ArrayLike, **look: Value) -> Line2D:
    """A line of theory; a bar where it has one point only."""
    x, y = np.asarray(x), np.asarray(y)
    if len(x) and np.ptp(x) == 0:
        x, y, look = x[:1], y[:1], {**look, "marker": "_", "markersize": 12}
    return axis.plot(x, y, **look)[0]


def save(figure: Figure, path: Path | str) -> list[Path]:
    """Write `path`.pdf, `path`.svg and `path`.png; returns the paths."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
    lay_out(figure)
    # Without dates in it, the same record gives the same file.
    figure.savefig(files[0], metadata={"CreationDate": None})
    figure.savefig(files[1], metadata={"Date": None})
    svg = files[1].read_text(encoding="utf-8")
    files[1].write_text(_COORDINATES.sub(lambda found: _DIGITS.sub(r"\1", found[0]), svg), encoding="utf-8")
    figure.savefig(files[2])
    return files


def lay_out(figure: Figure) -> None:
    """Everything in its place, for good: the layout is the same in all files, and finding it takes longer than
    drawing."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            _ticks(axis)
    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
        figure.set_layout_engine(None)  # one that does nothing would still cost a second drawing


# Matplotlib writes coordinates to a millionth of a point.
_COORDINATES, _DIGITS = re.compile(r' (?:d|x|y)="[^"]*"'), re.compile(r"(\.\d\d)\d+")


def surviving(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of cells that have not diverged; the runner writes above the figure how many there are."""
    return rows[~rows.diverged.astype(bool)] if "diverged" in rows else rows


def over_seeds(rows: pd.DataFrame, by: str | Sequence[str], value: str) -> pd.DataFrame:
    """Mean and standard deviation (0 for a single seed) of `value` over the rows of each group: `mean`, `std`.

    Raises:
        ValueError: a group has several rows of one seed, so that another setting would be taken for seeds.
    """
    keys = [by] if isinstance(by, str) else [*by]
    if "seed" in rows and rows.duplicated([*keys, "seed"]).any():
        raise ValueError(
            f"over_seeds: several rows of one seed at one {', '.join(keys)}: not seeds alone would be pooled"
        )
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


def numbered(axes: Axes, label: str) -> None:
    """An x-axis of numbers that count something: ticks at whole ones."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def mark(axis: Axis, values: ArrayLike) -> None:
    """Ticks at these values, at as many of them as there is room for when the figure is saved."""
    axis.set_major_locator(FixedLocator(np.unique(values).tolist()))
    axis.set_major_formatter("{x:g}")


def _ticks(axis: Axis) -> None:
    """On a logarithmic axis at least two ticks, without the minor ones: unlabelled, they are most of what there is to
    draw, and say little. Of ticks at given values, those that do not touch."""
    axis.set_minor_locator(NullLocator())
    axes, low, high = axis.axes, *sorted(axis.get_view_interval())
    locator = axis.get_major_locator()
    if not np.isfinite([low, high]).all() or low == high:
        return
    if isinstance(locator, FixedLocator) and not isinstance(axis.get_major_formatter(), FixedFormatter):
        values = [value for value in locator() if low <= value <= high]
        start, *places, end = axis.get_transform().transform(np.asarray([low, *values, high]))
        box, across = axes.get_window_extent(), axis is axes.xaxis
        scale = (box.width if across else box.height) / (end - start)
        size = float(mpl.rcParams["font.size"]) * axes.figure.dpi / 72
        kept: list[int] = []
        for i, place in enumerate(places):
            label = max(len(axis.get_major_formatter()(values[j], j)) for j in (i, *kept[-1:]))
            room = size * (0.55 * (label + 1) if across else 1.2)
            if not kept or (place - places[kept[-1]]) * scale >= room:
                kept.append(i)
        axis.set_major_locator(FixedLocator([values[i] for i in kept]))
    elif axis.get_scale() == "log" and not isinstance(axis.get_major_formatter(), NullFormatter):
        for subs in ((1,), (1, 2, 5), range(1, 10)):
            decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
            ticks = [s * 10.0**n for n in decades for s in subs if low <= s * 10.0**n <= high]
            if len(ticks) > (2 if subs == (1,) else 1):
                break
        else:
            ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
        if subs == (1,):
            axis.set_major_locator(LogLocator())
            return
        axis.set_major_locator(FixedLocator(ticks))
        plain = low >= 1e-3 and high < 1e5
        axis.set_major_formatter("{x:g}" if plain else LogFormatterMathtext(labelOnlyBase=False))
