"""What dropout on every hidden layer penalises: against masks along training, and against its lower bound."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> dict[str, Figure]:
    curves = record.table("curves")
    return {
        "regularizer": _along_training(curves),
        "standard_errors": _distances(curves),
        "bound": _bound(record, curves),
    }


def _handles(curves: pd.DataFrame) -> tuple[list[Line2D], list[str]]:
    """Of the widths, by colour, and the rates, by marker."""
    widths, rates = sorted(curves.width.unique()), sorted(curves.retain.unique())
    handles = [Line2D([], [], color=color) for color, _ in zip(plotting.COLORS, widths, strict=False)]
    handles += [
        Line2D([], [], color="0.3", marker=marker, linestyle="none", markerfacecolor="white")
        for marker, _ in zip(plotting.MARKERS, rates, strict=False)
    ]
    return handles, [*(f"$d = {d}$" for d in widths), *(rf"$\theta = {theta:g}$" for theta in rates)]


def _styles(curves: pd.DataFrame) -> list[tuple["pd.Series[bool]", str, str]]:
    """(which rows, colour, marker) of every width and rate."""
    return [
        ((curves.width == width) & (curves.retain == theta), color, marker)
        for color, width in zip(plotting.COLORS, sorted(curves.width.unique()), strict=False)
        for marker, theta in zip(plotting.MARKERS, sorted(curves.retain.unique()), strict=False)
    ]


def _along_training(curves: pd.DataFrame) -> Figure:
    depths = sorted(curves.depth.unique())
    figure, axes = plotting.panels(len(depths), sharey=True)
    for axis, depth in zip(axes, depths, strict=True):
        for chosen, color, marker in _styles(curves):
            rows = curves[chosen & (curves.depth == depth)]
            exact = plotting.over_seeds(rows, "step", "deterministic")
            sampled = plotting.over_seeds(rows, "step", "monte_carlo")
            axis.plot(exact.step + 1, exact["mean"], color=color)
            plotting.band(axis, exact.step + 1, exact["mean"], exact["std"], color)
            axis.plot(
                sampled.step + 1, sampled["mean"], linestyle="none", marker=marker, color=color, markerfacecolor="white"
            )
        axis.set(title=f"depth {depth}", xscale="log", yscale="log", xlabel="step + 1")
    axes[0].set_ylabel(r"$R\ /\ \|Y\|_2^2$")
    plotting.legend_below(figure, *_handles(curves))
    return figure


def _distances(curves: pd.DataFrame) -> Figure:
    depths = sorted(curves.depth.unique())
    figure, axes = plotting.panels(len(depths), sharey=True)
    for axis, depth in zip(axes, depths, strict=True):
        mine = curves.depth == depth
        wrong = (curves.monte_carlo - curves.layer_by_layer) / curves.standard_error
        axis.plot(curves.step[mine] + 1, wrong[mine], linestyle="none", marker=".", markersize=2, color="0.7", zorder=1)
        for chosen, color, marker in _styles(curves):
            rows = curves[chosen & mine]
            distance = (rows.monte_carlo - rows.deterministic) / rows.standard_error
            axis.plot(rows.step + 1, distance, linestyle="none", marker=marker, markersize=2.2, color=color, zorder=2)
        axis.axhspan(-3, 3, color="0.92", zorder=0)
        axis.axhline(0, color="0.4", linewidth=0.6)
        axis.set(title=f"depth {depth}", xscale="log", xlabel="step + 1")
        axis.set_yscale("symlog", linthresh=4, linscale=1.5)
        axis.set_yticks([-3, 0, 3, 10, 100, 1000])
        axis.yaxis.set_major_formatter("{x:g}")
    axes[0].set_ylabel("distance / standard error")
    handles, names = _handles(curves)
    control = Line2D([], [], color="0.7", marker=".", linestyle="none")
    plotting.legend_below(figure, [*handles, control], [*names, "control: layer by layer"])
    return figure


def _bound(record: Record, curves: pd.DataFrame) -> Figure:
    floor = 1e-6  # below it a gap is drawn at it
    ratios, depths = record.arrays["random_ratio"], record.arrays["random_depth"]
    figure, (left, right) = plotting.panels(2, height=2.1)
    for color, marker, depth in zip(plotting.COLORS, plotting.MARKERS, np.unique(depths), strict=False):
        mine = curves[(curves.depth == depth) & (curves.step > 0)]
        gap = np.maximum(mine.deterministic / mine.bound - 1, floor)
        last = mine.step == mine.step.max()
        for rows, face in ((~last, "white"), (last, color)):
            left.plot(
                mine.effective_rank[rows], gap[rows], linestyle="none", marker=marker, color=color, markerfacecolor=face
            )
        spread = np.log10(np.maximum(ratios[depths == depth].ravel() - 1, floor))
        right.hist(spread, bins=40, histtype="step", color=color, label=f"depth {depth}")
    left.set(yscale="log", xlabel="effective rank of $WX$", ylabel=r"$R\ /\ \nu\|WX\|_*^2 - 1$")
    right.set(xlabel=r"$\log_{10}(R\ /\ \nu\|WX\|_*^2 - 1)$, random networks", ylabel="networks")
    plotting.legend_below(figure, left.get_lines()[1::2], [f"depth {depth}" for depth in np.unique(depths)])
    return figure
