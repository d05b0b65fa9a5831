"""How rank falls with dropout: SGD beside theory, the rate at which it becomes 1, and spectra."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from repro.papers.deep_linear_dropout.deep_linear_collapse import COLLAPSE, measured_share
from repro.pipeline import plotting
from repro.pipeline.plotting import DASHED, MEASURED
from repro.pipeline.store import Record


def figures(record: Record) -> plotting.Drawings:
    return {
        "collapse": partial(_collapse, record),
        "rate": partial(_rate, record),
        "spectra": partial(_spectra, record),
    }


def _attainable(depth: int, width: int) -> int:
    """Up to which rank a network attains the closed form: each unit of a single hidden layer must be able to carry an
    equal share of it, for which as many units as its rank are enough; with more layers, only rank 1 is."""
    return width if depth == 2 else 1


def _collapse(record: Record) -> Figure:
    cells, arrays = record.cells, record.arrays
    widths = sorted(cells.width.unique().tolist())
    titles = {depth: f"depth {depth}" for depth in sorted(cells.depth.unique().tolist())}
    shapes = zip(arrays["collapse_depth"], arrays["collapse_width"], strict=True)
    curve = dict(zip(shapes, zip(arrays["curve_rank"], arrays["curve_effective_rank"], strict=True), strict=True))
    figure, axes = plotting.titled(titles, sharey=True)
    for depth, axis in axes.items():
        for color, marker, width in plotting.styles(widths):
            mine = cells[(cells.depth == depth) & (cells.width == width)]
            critical = mine.critical_retain.iloc[0]
            rates, (ranks, effective) = arrays["curve_retain"], curve[depth, width]
            known = ranks <= _attainable(depth, width)
            axis.plot(rates[known], effective[known], color=color)
            axis.plot(rates[~known], effective[~known], color=color, linestyle=DASHED, linewidth=0.7)
            axis.axvline(critical, color=color, linestyle=":", linewidth=0.8)
            found = plotting.over_seeds(mine.dropna(subset="effective_rank"), "retain", "effective_rank")
            look = {"color": color, "marker": marker, "elinewidth": 0.8, **MEASURED}
            axis.errorbar(found.retain, found["mean"], found["std"], **look)
        axis.set(xlabel=r"retain probability $\theta$", xlim=(0, 1))
    axis.set(ylim=(0.8, 0.3 + 1.1 * np.nanmax([1.0, *cells.effective_rank])))
    plotting.label_rows(axes.values(), "effective rank")
    key = plotting.Key()
    key.series((f"SGD, $d = {d}$" for d in widths), markerfacecolor="white")
    key.add("closed form")
    key.add("of the lower bound", linestyle=DASHED, linewidth=0.7)
    key.add("rank 1 is certain left of it", linestyle=":", linewidth=0.8)
    key.below(figure)
    return figure


def _rate(record: Record) -> Figure:
    found = pd.DataFrame({name: record.arrays[f"collapse_{name}"] for name in COLLAPSE}).sort_values("width")
    found["measured"] = 1 / (1 + measured_share(found) * (1 - found.onset) / found.onset)
    figure, (axis,) = plotting.panels(1)
    depths = sorted(found.depth.unique().tolist())
    for color, marker, depth in plotting.styles(depths):
        rows = found[found.depth == depth]
        plotting.line(axis, rows.width, rows.predicted, color=color)
        if depth > 2:
            plotting.line(axis, rows.width, rows.onset, color=color, linestyle=DASHED, linewidth=0.8)
        axis.plot(rows.width, rows.measured, color=color, marker=marker, **MEASURED)
    axis.set(xscale="log", xlabel="width $d$", ylabel=r"largest $\theta$ of rank 1", ylim=(0, 1))
    plotting.mark(axis.xaxis, found.width)
    key = plotting.Key()
    key.series((f"depth {depth}" for depth in depths), markerfacecolor="white")
    key.add("rank 1 is certain")
    if max(depths) > 2:
        key.add("rank 1 is the optimum", linestyle=DASHED, linewidth=0.8)
    key.below(figure)
    return figure


def _spectra(record: Record) -> Figure:
    """At the middle width, three rates of the grid."""
    cells, arrays = record.cells, record.arrays
    depths, widths, rates = (sorted(cells[name].unique().tolist()) for name in ("depth", "width", "retain"))
    width = widths[len(widths) // 2]
    titles = {depth: f"depth {depth}, $d = {width}$" for depth in depths}
    chosen = sorted({rates[round(i)] for i in np.linspace(0, len(rates) - 1, 3)})
    shown = np.arange(1, min(width, arrays["singular_values"].shape[1], 10) + 1)
    figure, axes = plotting.titled(titles, sharey=True)
    for depth, axis in axes.items():
        for color, marker, retain in plotting.styles(chosen):
            rows = cells[(cells.depth == depth) & (cells.width == width) & (cells.retain == retain) & ~cells.diverged]
            values = arrays["singular_values"][rows.cell.to_numpy()][:, : len(shown)]
            if rows.empty:
                continue
            if rows.closed_form_rank.iloc[0] <= _attainable(depth, width):
                axis.plot(shown, arrays["closed_form"][rows.cell.iloc[0]][: len(shown)], color=color)
            axis.plot(shown, values.mean(0), marker=marker, color=color, **MEASURED)
            plotting.band(axis, shown, values.mean(0), values.std(0), color)
        plotting.numbered(axis, "index $i$")
    plotting.label_rows(axes.values(), r"$\sigma_i(WX)\ /\ \sigma_1(Y)$")
    key = plotting.Key()
    key.series((rf"SGD, $\theta = {theta:g}$" for theta in chosen), markerfacecolor="white")
    key.add("closed form")
    key.below(figure)
    return figure
