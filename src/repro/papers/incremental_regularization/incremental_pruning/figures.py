"""Pruned networks: accuracy against speed-up, paired differences, the cost of removals, layers, and floors."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.papers.incremental_regularization.incremental_pruning.claims import TITLES, pruned, reference, removals
from repro.pipeline import plotting
from repro.pipeline.intervals import reach
from repro.pipeline.plotting import COLORS, DASHED, MEASURED
from repro.pipeline.store import Record

# Colour and marker; growing penalties are open, the controls grey.
LOOKS = {
    "one_shot": (COLORS[6], "o"),
    "afp": (COLORS[4], "v"),
    "group_lasso": (COLORS[5], "P"),
    "greg_1": (COLORS[2], "^"),
    "greg_2": (COLORS[3], "D"),
    "inc_reg": (COLORS[0], "s"),
    "random": ("0.5", "X"),
    "largest": ("0.7", "d"),
}


def figures(record: Record) -> plotting.Drawings:
    found = {
        "tradeoff": partial(_tradeoff, record),
        "differences": partial(_differences, record),
        "removal": partial(_removal, record),
        "layers": partial(_layers, record),
    }
    return found | ({"floor": partial(_floor, record)} if (record.cells["mode"] == "floor").any() else {})


def _named(methods: "pd.Series[str]") -> list[str]:
    return [name for name in TITLES if name in set(methods)]


def _points(
    axis: Axes, name: str, x: Sequence[float], samples: Sequence["pd.Series[float]"], joined: bool = True
) -> None:
    """A mark with its interval for each sample, joined."""
    if not samples:
        return
    color, marker = LOOKS[name]
    mean, half = [sample.mean() for sample in samples], [reach(sample.to_numpy()) for sample in samples]
    axis.errorbar(x, mean, half, color=color, marker=marker, elinewidth=0.7, **MEASURED)
    if joined and len(x) > 1:
        axis.plot(x, mean, color=color, linewidth=0.5)


def _key(figure: Figure, names: Sequence[str], extra: Sequence[tuple[str, dict[str, object]]] = ()) -> None:
    key = plotting.Key()
    for text, look in extra:
        key.add(text, **look)
    for name in names:
        color, marker = LOOKS[name]
        key.add(TITLES[name], color=color, marker=marker, **MEASURED)
    key.below(figure)


def _tradeoff(record: Record) -> Figure:
    cells = plotting.surviving(pruned(record))
    names = _named(cells.method)
    figure, (axis,) = plotting.panels(1, height=2.4)
    for name in names:
        groups = [rows for _, rows in cells[cells.method == name].groupby("ratio")]
        _points(axis, name, [rows.speed_up.mean() for rows in groups], [rows.accuracy for rows in groups])
    axis.axhline(record.cells.groupby("seed").baseline.first().mean(), color="0.3", linewidth=0.8)
    axis.set(xscale="log", xlabel="speed-up in MACs", ylabel="test accuracy")
    if cells.ratio.nunique() > 1:
        plotting.mark(axis.xaxis, cells.groupby("ratio").speed_up.mean().round(1))
    _key(figure, names, [("baseline", {"color": "0.3", "linewidth": 0.8})])
    return figure


def _differences(record: Record) -> Figure:
    cells = plotting.surviving(pruned(record))
    table = cells.pivot(index=["ratio", "seed"], columns="method", values="accuracy")
    names = [name for name in _named(cells.method) if name != "one_shot"]
    ratios = sorted(cells.ratio.unique())
    figure, (axis,) = plotting.panels(1, height=2.4)
    axis.axhline(0, color="0.3", linewidth=0.8)
    for place, name in enumerate(names if "one_shot" in table else ()):
        gaps = (table[name] - table.one_shot).dropna()
        found = [(ratio, gaps.loc[ratio]) for ratio in ratios if ratio in gaps.index.get_level_values("ratio")]
        shift = (place - (len(names) - 1) / 2) * 0.1  # side by side, or intervals would hide each other
        x = [ratios.index(ratio) + shift for ratio, _ in found]
        _points(axis, name, x, [gap for _, gap in found], joined=False)
    axis.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
    axis.set(xlabel="ratio R removed", ylabel="accuracy less one-shot's")
    _key(figure, names)
    return figure


def _removal(record: Record) -> Figure:
    cells = plotting.surviving(removals(record))
    every = pruned(record)
    once = plotting.surviving(every[(every.method == "one_shot") & (every.ratio == reference(record))])
    figure, axes = plotting.panels(2, height=2.2)
    for axis, column, label in zip(
        axes, ("lost", "lost_loss"), ("accuracy lost at removals", "cross-entropy gained"), strict=True
    ):
        axis.plot(cells.gentleness, cells[column], color=LOOKS["inc_reg"][0], marker=LOOKS["inc_reg"][1], **MEASURED)
        mean = cells.groupby("gentleness")[column].mean()
        axis.plot(mean.index, mean, color=LOOKS["inc_reg"][0], linewidth=0.5)
        if len(once):
            axis.axhline(once[column].mean(), color=LOOKS["one_shot"][0], linestyle=DASHED, linewidth=0.8)
        axis.set(xscale="log", xlabel="gentleness E", ylabel=label)
        if len(cells):
            plotting.mark(axis.xaxis, cells.gentleness)
    _key(figure, ["inc_reg"], [("one-shot", {"color": LOOKS["one_shot"][0], "linestyle": DASHED, "linewidth": 0.8})])
    return figure


def _layers(record: Record) -> Figure:
    """Of a network with many layers the first of those that have room are named."""
    arrays, cells = record.arrays, record.cells
    names = [str(name) for name in arrays["layers"]]
    places = np.arange(len(names))
    rows = cells[(cells["mode"] == "ratio") & ~cells.diverged.astype(bool)]
    ratios = sorted(rows.ratio.unique())
    figure, (left, right) = plotting.panels(2, height=2.2)
    left.plot(places, arrays["macs"], color="0.3", marker="_", markersize=10, linestyle="none")
    key = plotting.Key()
    key.add("whole network", marker="_", markersize=10, linestyle="none")
    for color, marker, ratio in plotting.styles(ratios):
        mine = rows[rows.ratio == ratio].cell.to_numpy()
        groups = arrays["groups"]
        kept = 1 - np.ceil(ratio * groups * (1 - 1e-9)) / groups
        plotting.line(right, places, kept, color=color)
        for axis, values in ((left, arrays["macs_left"][mine]), (right, arrays["left"][mine] / groups)):
            for row in np.unique(values, axis=0):
                axis.plot(places, row, color=color, marker=marker, **MEASURED)
        key.add(f"R = {ratio:g}", color=color, marker=marker, markerfacecolor="white")
    few = places if len(names) <= 6 else places[:: -(-len(names) // 6)]
    for axis in (left, right):
        axis.set_xticks(few, [names[place] for place in few], rotation=0 if len(names) <= 4 else 30)
    left.set(yscale="log", ylabel="MACs")
    right.set(ylabel=f"share of {record.config['training']['groups']}s left", ylim=(0, None))
    key.below(figure)
    return figure


def _floor(record: Record) -> Figure:
    cells = record.cells[record.cells["mode"] == "floor"]
    curves = record.curves[record.curves.cell.isin(cells.cell)]
    figure, (left, right) = plotting.panels(2, height=2.2)
    key = plotting.Key()
    for color, marker, (_, cell) in plotting.styles(cells.head(12).iterrows()):
        rows = curves[curves.cell == cell.cell]
        kept = rows.kept.astype(bool)
        left.axhline(cell.floor, color=color, linewidth=0.8)
        for axis, column in ((left, "validation"), (right, "ratio")):
            axis.plot(rows.step, rows[column], color=color, linewidth=0.5)
            axis.plot(rows.step[kept], rows[column][kept], color=color, marker=marker, linestyle="none")
            axis.plot(rows.step[~kept], rows[column][~kept], color=color, marker=marker, **MEASURED)
        key.add(f"seed {cell.seed}", color=color, marker=marker)
    plotting.numbered(left, "round")
    plotting.numbered(right, "round")
    left.set(ylabel="accuracy on validation images")
    right.set(ylabel="ratio R removed")
    key.below(figure)
    return figure
