"""λ of every group over time, the increment, removal times on their oracle, and shrinkage on its law."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure

from repro.papers.incremental_regularization.incremental_schedule import KEPT, RECOVERED, REMOVED, SCENARIOS, STATIC
from repro.pipeline import plotting
from repro.pipeline.plotting import COLORS, DASHED, MEASURED
from repro.pipeline.store import Record

FATES = {REMOVED: ("removed", COLORS[1]), RECOVERED: ("recovered", COLORS[2]), KEPT: ("kept", COLORS[0])}
MARKS = 12  # of a curve, so that the line is seen


def figures(record: Record) -> plotting.Drawings:
    return {
        "paths": partial(_paths, record),
        "increment": partial(_increment, record),
        "times": partial(_times, record),
        "shrinkage": partial(_shrinkage, record),
    }


def _paths(record: Record) -> Figure:
    arrays, options = record.arrays, record.config["options"]
    names, ratios = arrays["path_scenario"].tolist(), arrays["path_ratio"].tolist()
    nearest = min(
        (i for i, name in enumerate(names) if name == STATIC), key=lambda i: abs(ratios[i] - options["ratio"])
    )
    shown = {nearest: STATIC} | {i: names[i] for i in range(len(names)) if names[i] in SCENARIOS[1:]}
    figure, axes = plotting.titled(shown, columns=3, height=1.6)
    for i, axis in axes.items():
        updates, fates = arrays["path_updates"][i], arrays["fates"][i]
        for fate in (KEPT, REMOVED, RECOVERED):
            for path in arrays["paths"][i][:, fates == fate].T:
                end = 1 + np.flatnonzero(path).max(initial=0) if fate == REMOVED else len(path)  # where it went
                axis.plot(updates[:end], path[:end], color=FATES[fate][1], linewidth=0.7)
        axis.axhline(options["ceiling"], color="0.3", linestyle=DASHED, linewidth=0.8)
        plotting.numbered(axis, "update")
    plotting.label_rows(axes.values(), r"penalty $\lambda_g$")
    plotting.share_y(axes.values())
    key = plotting.Key()
    for name, color in FATES.values():
        key.add(name, color=color)
    key.add("ceiling $T$", linestyle=DASHED)
    key.below(figure)
    return figure


def _increment(record: Record) -> Figure:
    arrays, u = record.arrays, record.config["options"]["u"]
    threshold = float(arrays["increment_threshold"])
    turn = threshold * np.log(1 / u) / np.log(2 / u)
    figure, (axis,) = plotting.panels(1, height=2.0)
    low = min(-1.1, float(arrays["increment_gain"][arrays["increment_rank"] <= 1.3 * threshold].min(initial=0)))
    axis.plot(arrays["increment_line_rank"], arrays["increment_line"], color=COLORS[0])
    axis.plot(arrays["increment_rank"], arrays["increment_gain"], "o", color=COLORS[1], **MEASURED)
    axis.axhline(0, color="0.3", linewidth=0.6)
    axis.plot([turn, threshold], [u, 0], "x", color="0.3")
    axis.set(ylim=(low, 1.1), ylabel=r"$\Delta\lambda\ /\ A$")
    plotting.numbered(axis, "rank $j$")
    key = plotting.Key()
    key.add(r"$\Delta\lambda(j)$", color=COLORS[0])
    key.add("an update of the layer", color=COLORS[1], marker="o", **MEASURED)
    key.add("turn, and threshold $K$", marker="x", linestyle="none")
    key.below(figure)
    return figure


def _times(record: Record) -> Figure:
    times, key = record.arrays["times"], plotting.Key()
    figure, (axis,) = plotting.panels(1, height=2.0)
    ratios = np.unique(times[:, 0]).tolist()
    for color, marker, ratio in plotting.styles(ratios):
        measured, oracle = times[times[:, 0] == ratio, 1:].T
        order = np.arange(1, len(oracle) + 1)
        every = max(1, len(order) // MARKS)
        plotting.line(axis, order, oracle, color=color)
        axis.plot(order[::every], measured[::every], marker, color=color, **MEASURED)
    key.series([f"$R = {ratio:g}$" for ratio in ratios], **MEASURED)
    key.add("oracle")
    plotting.numbered(axis, "groups removed")
    axis.set(ylabel="update")
    key.below(figure)
    return figure


def _shrinkage(record: Record) -> Figure:
    arrays, key = record.arrays, plotting.Key()
    figure, (left, right) = plotting.panels(2, height=2.0)
    penalties = arrays["shrinkage_penalty"].tolist()
    every = max(1, len(arrays["curvature"]) // MARKS)
    for rotated in arrays["rotated_left"]:
        left.plot(arrays["rotated_curvature"], rotated, ".", color="0.75")
    for (color, marker, _), law, found in zip(plotting.styles(penalties), arrays["law"], arrays["left"], strict=True):
        left.plot(arrays["curvature"], law, color=color)
        left.plot(arrays["curvature"][::every], found[::every], marker, color=color, **MEASURED)
    low, high = arrays["rotated_left"].min(), arrays["rotated_left"].max()
    left.set(
        xscale="log",
        xlabel="curvature $h$",
        ylabel=r"$\hat w\ /\ w^*$",
        ylim=(max(-0.5, low) - 0.1, min(1.5, high) + 0.1),
    )
    key.series([rf"$\delta\lambda = {penalty:g}$" for penalty in penalties], **MEASURED)
    key.add("the law")
    key.add("rotated $H$", marker=".", linestyle="none", color="0.75")
    x = arrays["dispersion_penalty"]
    for name, column, color, line in (
        ("curvatures differ", "dispersion", COLORS[4], "-"),
        ("one curvature", "dispersion_equal", COLORS[5], DASHED),
    ):
        rows = arrays[column]
        right.plot(x, rows.mean(0), color=color, linestyle=line, marker="P")
        plotting.band(right, x, rows.mean(0), rows.std(0), color)
        key.add(name, color=color, linestyle=line, marker="P")
    right.set_xscale("symlog", linthresh=float(x[1]))
    right.set(xlabel=r"penalty $\delta\lambda$", ylabel=r"std/mean of groups' $\Sigma|w|$", ylim=(0, None))
    right.set_xlim(-float(x[1]) / 5, 1.5 * float(x[-1]))
    key.below(figure)
    return figure
