"""Sparse regression by adaptive dropout: stationarity, error, support, and the weights under masks."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from repro.papers.adaptive_dropout.adaptive_regression import CONTROLS, MASKED, SPARSE
from repro.pipeline import plotting
from repro.pipeline.store import Record

LOOKS = dict(zip(SPARSE + CONTROLS, zip(plotting.COLORS, plotting.MARKERS, strict=True), strict=False))


def figures(record: Record) -> dict[str, Figure]:
    return {"path": _path(record), "support": _support(record), "masks": _masks(record)}


def _path(record: Record) -> Figure:
    cells = record.cells
    figure, (left, right) = plotting.panels(2, height=2.2)
    for name, (color, marker) in LOOKS.items():
        mine = cells[(cells.penalty == name) & (cells.method == "reweighting")]
        left.plot(*_worst(mine), color=color)
        mean = plotting.over_seeds(mine, "strength", "error")
        right.plot(mean.strength, mean["mean"], color=color)
        plotting.band(right, mean.strength, mean["mean"], mean["std"], color)
        peer = cells[(cells.penalty == name) & (cells.method == "proximal gradient")]
        if len(peer):
            left.plot(*_worst(peer), marker, color=color, markerfacecolor="white")
            mean = plotting.over_seeds(peer, "strength", "error")
            right.plot(mean.strength, mean["mean"], marker, color=color, markerfacecolor="white")
    left.axhspan(1e-16, 1e-8, color="0.92", zorder=0)
    left.set(xscale="log", yscale="log", xlabel=r"strength $\lambda\Omega'(0^+)$", ylabel="largest KKT residual")
    right.set(xscale="log", yscale="log", xlabel=r"strength $\lambda\Omega'(0^+)$", ylabel=r"$\|w-w^*\|\ /\ \|w^*\|$")
    handles = [Line2D([], [], color=color) for color, _ in LOOKS.values()]
    handles.append(Line2D([], [], color="0.3", marker="o", linestyle="none", markerfacecolor="white"))
    plotting.legend_below(figure, handles, [*LOOKS, "proximal gradient"])
    return figure


def _worst(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    worst = rows.groupby("strength").residual.max().clip(lower=1e-16)
    return worst.index.to_numpy(), worst.to_numpy()


def _support(record: Record) -> Figure:
    cells = record.cells
    figure, (axis,) = plotting.panels(1, height=2.2)
    for name, (color, marker) in LOOKS.items():
        mine = cells[(cells.penalty == name) & (cells.method == "reweighting")]
        mean = plotting.over_seeds(mine, "strength", "nonzeros")
        axis.plot(mean.strength, mean["mean"], color=color, marker=marker, label=name)
    axis.axhline((record.arrays["truth"][0] != 0).sum(), color="0.3", linestyle=":")
    axis.set(xscale="log", yscale="log", xlabel=r"strength $\lambda\Omega'(0^+)$", ylabel="weights that are not zero")
    axis.legend()
    return figure


def _masks(record: Record) -> Figure:
    cells, weights = record.cells, record.arrays["weights"]
    names = [*SPARSE, *CONTROLS]
    figure, axes = plotting.panels(len(names), columns=len(names), height=1.5)
    own = cells[(cells.method == "reweighting") & (cells.start == 0)].set_index(["penalty", "strength", "seed"]).cell
    for axis, name in zip(axes, names, strict=True):
        for color, marker, noise in zip(plotting.COLORS, plotting.MARKERS, MASKED, strict=False):
            mine = cells[(cells.penalty == name) & (cells.method == noise)]
            for row in mine.itertuples():
                x = weights[own[name, row.strength, row.seed]]
                shown = (np.abs(x) + np.abs(weights[row.cell])) > 1e-3
                axis.plot(x[shown], weights[row.cell][shown], color=color, linestyle="none", marker=marker,
                          markersize=1.6, markerfacecolor="white", markeredgewidth=0.4)  # fmt: skip
        ends = np.array(axis.get_xlim())
        axis.plot(ends, ends, color="0.6", linewidth=0.6, zorder=0)
        axis.set(title=name, xlabel="solution")
    axes[0].set_ylabel("SGD under masks")
    looks = zip(plotting.COLORS, plotting.MARKERS, MASKED, strict=False)
    handles = [Line2D([], [], color=color, marker=marker, linestyle="none") for color, marker, _ in looks]
    plotting.legend_below(figure, handles, [*MASKED])
    return figure
