"""What dropout on every hidden layer penalises: against masks along training, and against its lower bound."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from repro.pipeline import plotting
from repro.pipeline.plotting import MEASURED
from repro.pipeline.store import Record

EACH = 4  # widths, and rates, where all pairs of them are too many for a panel


def figures(record: Record) -> plotting.Drawings:
    curves = record.table("curves")
    return {
        "regularizer": partial(_along_training, curves),
        "standard_errors": partial(_distances, curves),
        "bound": partial(_bound, record, curves),
    }


def _titles(curves: pd.DataFrame) -> dict[int, str]:
    return {depth: f"depth {depth}" for depth in sorted(curves.depth.unique().tolist())}


def _few(curves: pd.DataFrame, figure: Figure) -> tuple[list[int], list[float]]:
    """The widths and the rates: where a panel has no room for all pairs, some of each."""
    widths, rates = (sorted(curves[name].unique().tolist()) for name in ("width", "retain"))
    most = len(widths) + len(rates) if len(widths) * len(rates) <= plotting.MOST_SERIES else EACH
    return (
        [*plotting.some(dict.fromkeys(widths), figure, most=most, what="widths")],
        [*plotting.some(dict.fromkeys(rates), figure, most=most, what="rates")],
    )


def _styles(curves: pd.DataFrame, figure: Figure) -> list[tuple["pd.Series[bool]", str, str]]:
    """(which rows, colour, marker) of every width, by colour, and rate, by marker."""
    widths, rates = _few(curves, figure)
    return [
        ((curves.width == width) & (curves.retain == theta), color, marker)
        for color, _, width in plotting.styles(widths)
        for _, marker, theta in plotting.styles(rates)
    ]


def _key(curves: pd.DataFrame) -> plotting.Key:
    widths, rates = _few(curves, Figure())
    key = plotting.Key()
    key.series((f"$d = {width}$" for width in widths), linestyle="-", marker="")
    key.series((rf"$\theta = {theta:g}$" for theta in rates), color="0.3", markerfacecolor="white")
    return key


def _along_training(curves: pd.DataFrame) -> Figure:
    figure, axes = plotting.titled(_titles(curves), sharey=True)
    styles = _styles(curves, figure)
    for depth, axis in axes.items():
        for chosen, color, marker in styles:
            rows = curves[chosen & (curves.depth == depth)]
            exact = plotting.over_seeds(rows, "step", "deterministic")
            sampled = plotting.over_seeds(rows, "step", "monte_carlo")
            axis.plot(exact.step + 1, exact["mean"], color=color)
            plotting.band(axis, exact.step + 1, exact["mean"], exact["std"], color)
            axis.plot(sampled.step + 1, sampled["mean"], marker=marker, color=color, **MEASURED)
        axis.set(xscale="log", yscale="log", xlabel="step + 1")
    plotting.label_rows(axes.values(), r"$R\ /\ \|Y\|_2^2$")
    _key(curves).below(figure)
    return figure


def _distances(curves: pd.DataFrame) -> Figure:
    figure, axes = plotting.titled(_titles(curves), sharey=True)
    styles = _styles(curves, figure)
    for depth, axis in axes.items():
        mine = curves.depth == depth
        wrong = (curves.monte_carlo - curves.layer_by_layer) / curves.standard_error
        axis.plot(curves.step[mine] + 1, wrong[mine], linestyle="none", marker=".", markersize=2, color="0.7", zorder=1)
        for chosen, color, marker in styles:
            rows = curves[chosen & mine]
            distance = (rows.monte_carlo - rows.deterministic) / rows.standard_error
            axis.plot(rows.step + 1, distance, linestyle="none", marker=marker, markersize=2.2, color=color, zorder=2)
        axis.axhspan(-3, 3, color="0.92", zorder=0)
        axis.axhline(0, color="0.4", linewidth=0.6)
        axis.set(xscale="log", xlabel="step + 1")
        axis.set_yscale("symlog", linthresh=4, linscale=1.5)
        axis.set_yticks([-3, 0, 3, 10, 100, 1000])
        axis.yaxis.set_major_formatter("{x:g}")
    plotting.label_rows(axes.values(), "distance / standard error")
    key = _key(curves)
    key.add("control: layer by layer", color="0.7", marker=".", linestyle="none")
    key.below(figure)
    return figure


def _bound(record: Record, curves: pd.DataFrame) -> Figure:
    floor = 1e-6  # below it a gap is drawn at it
    ratios, found = record.arrays["random_ratio"], record.arrays["random_depth"]
    depths = np.unique(found).tolist()
    figure, (left, right) = plotting.panels(2, height=2.1)
    for color, marker, depth in plotting.styles(depths):
        mine = curves[(curves.depth == depth) & (curves.step > 0)]
        gap = np.maximum(mine.deterministic / mine.bound - 1, floor)
        last = mine.step == mine.step.max()
        for rows, face in ((~last, "white"), (last, color)):
            look = {**MEASURED, "marker": marker, "color": color, "markerfacecolor": face}
            left.plot(mine.effective_rank[rows], gap[rows], **look)
        spread = np.log10(np.maximum(ratios[found == depth].ravel() - 1, floor))
        right.hist(spread, bins=40, histtype="step", color=color)
    left.set(yscale="log", xlabel="effective rank of $WX$", ylabel=r"$R\ /\ \nu\|WX\|_*^2 - 1$")
    right.set(xlabel=r"$\log_{10}(R\ /\ \nu\|WX\|_*^2 - 1)$, random networks", ylabel="networks")
    key = plotting.Key()
    key.series(f"depth {depth}" for depth in depths)
    key.add("along training", marker="o", **MEASURED)
    key.add("at its end", marker="o", linestyle="none")
    key.below(figure)
    return figure
