"""How rank falls with dropout: SGD beside theory, the rate at which it becomes 1, and spectra."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from repro.papers.deep_linear_dropout.deep_linear_collapse import COLLAPSE, measured_share
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> dict[str, Figure]:
    return {"collapse": _collapse(record), "rate": _rate(record), "spectra": _spectra(record)}


def _attainable(depth: int, width: int) -> int:
    """Up to which rank a network attains the closed form: each unit of a single hidden layer must be able to carry an
    equal share of it, for which as many units as its rank are enough; with more layers, only rank 1 is."""
    return width if depth == 2 else 1


def _collapse(record: Record) -> Figure:
    cells, arrays = record.cells, record.arrays
    depths, widths = sorted(cells.depth.unique().tolist()), sorted(cells.width.unique().tolist())
    shapes = zip(arrays["collapse_depth"], arrays["collapse_width"], strict=True)
    curve = dict(zip(shapes, zip(arrays["curve_rank"], arrays["curve_effective_rank"], strict=True), strict=True))
    figure, axes = plotting.panels(len(depths), sharey=True)
    for axis, depth in zip(axes, depths, strict=True):
        for color, marker, width in zip(plotting.COLORS, plotting.MARKERS, widths, strict=False):
            mine = cells[(cells.depth == depth) & (cells.width == width)]
            critical = mine.critical_retain.iloc[0]
            rates, (ranks, effective) = arrays["curve_retain"], curve[depth, width]
            known = ranks <= _attainable(depth, width)
            axis.plot(rates[known], effective[known], color=color)
            axis.plot(rates[~known], effective[~known], color=color, linestyle=(0, (3, 2)), linewidth=0.7)
            axis.axvline(critical, color=color, linestyle=":", linewidth=0.8)
            found = plotting.over_seeds(mine.dropna(subset="effective_rank"), "retain", "effective_rank")
            axis.errorbar(
                found.retain, found["mean"], found["std"], linestyle="none", color=color, marker=marker,
                markerfacecolor="white", elinewidth=0.8,
            )  # fmt: skip
        axis.set(title=f"depth {depth}", xlabel=r"retain probability $\theta$", xlim=(0, 1))
    axes[0].set(ylabel="effective rank", ylim=(0.8, 0.3 + 1.1 * np.nanmax([1.0, *cells.effective_rank])))
    handles = [
        Line2D([], [], color=c, marker=m, linestyle="none", markerfacecolor="white")
        for c, m, _ in zip(plotting.COLORS, plotting.MARKERS, widths, strict=False)
    ]
    handles += [Line2D([], [], color="0.3"), Line2D([], [], color="0.3", linestyle=(0, (3, 2)), linewidth=0.7)]
    handles += [Line2D([], [], color="0.3", linestyle=":", linewidth=0.8)]
    names = [*(f"SGD, $d = {d}$" for d in widths), "closed form", "of the lower bound", "rank 1 is certain left of it"]
    plotting.legend_below(figure, handles, names)
    return figure


def _rate(record: Record) -> Figure:
    found = pd.DataFrame({name: record.arrays[f"collapse_{name}"] for name in COLLAPSE}).sort_values("width")
    found["measured"] = 1 / (1 + measured_share(found) * (1 - found.onset) / found.onset)
    figure, (axis,) = plotting.panels(1)
    for color, marker, (depth, rows) in zip(plotting.COLORS, plotting.MARKERS, found.groupby("depth"), strict=False):
        dash = "" if len(rows) > 1 else "_"
        axis.plot(rows.width, rows.predicted, color=color, marker=dash, markersize=12)
        if depth > 2:
            onset = axis.plot(rows.width, rows.onset, color=color, marker=dash, markersize=12, linewidth=0.8)
            onset[0].set_linestyle((0, (3, 2)))
        axis.plot(
            rows.width, rows.measured, linestyle="none", color=color, marker=marker, markerfacecolor="white",
            label=f"depth {depth}",
        )  # fmt: skip
    axis.set(xscale="log", xlabel="width $d$", ylabel=r"largest $\theta$ of rank 1", ylim=(0, None))
    axis.set_xticks(sorted(found.width.unique()))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.legend()
    return figure


def _spectra(record: Record) -> Figure:
    """At the middle width, three rates of the grid."""
    cells, arrays = record.cells, record.arrays
    depths, widths, rates = (sorted(cells[name].unique().tolist()) for name in ("depth", "width", "retain"))
    width = widths[len(widths) // 2]
    chosen = sorted({rates[round(i)] for i in np.linspace(0, len(rates) - 1, 3)})
    shown = np.arange(1, min(width, arrays["singular_values"].shape[1], 10) + 1)
    figure, axes = plotting.panels(len(depths), sharey=True)
    for axis, depth in zip(axes, depths, strict=True):
        for color, marker, retain in zip(plotting.COLORS, plotting.MARKERS, chosen, strict=False):
            rows = cells[(cells.depth == depth) & (cells.width == width) & (cells.retain == retain) & ~cells.diverged]
            values = arrays["singular_values"][rows.cell.to_numpy()][:, : len(shown)]
            if rows.empty:
                continue
            if rows.closed_form_rank.iloc[0] <= _attainable(depth, width):
                axis.plot(shown, arrays["closed_form"][rows.cell.iloc[0]][: len(shown)], color=color)
            axis.plot(shown, values.mean(0), linestyle="none", marker=marker, color=color, markerfacecolor="white")
            plotting.band(axis, shown, values.mean(0), values.std(0), color)
        axis.set(title=f"depth {depth}, $d = {width}$", xlabel="index $i$")
    axes[0].set_ylabel(r"$\sigma_i(WX)\ /\ \sigma_1(Y)$")
    handles = [
        Line2D([], [], color=c, marker=m, linestyle="none", markerfacecolor="white")
        for c, m, _ in zip(plotting.COLORS, plotting.MARKERS, chosen, strict=False)
    ]
    names = [*(rf"SGD, $\theta = {theta:g}$" for theta in chosen), "closed form"]
    plotting.legend_below(figure, [*handles, Line2D([], [], color="0.3")], names)
    return figure
