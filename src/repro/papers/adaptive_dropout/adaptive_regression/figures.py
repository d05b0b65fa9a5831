"""Sparse regression by adaptive dropout: stationarity, error, support, and the weights under masks."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.papers.adaptive_dropout.adaptive_regression import ALLOWED, CONTROLS, MASKED, SPARSE
from repro.pipeline import plotting
from repro.pipeline.plotting import MEASURED
from repro.pipeline.store import Record

NAMES = (*SPARSE, *CONTROLS)
STRENGTH = r"strength $\lambda\,\Omega'(0^+)$"
SHOWN = 1e-3  # of weights, either of which is larger


def figures(record: Record) -> plotting.Drawings:
    return {
        "path": partial(_path, record),
        "support": partial(_support, record),
        "masks": partial(_masks, record),
    }


def _of(record: Record, penalty: str, *methods: str) -> pd.DataFrame:
    cells = record.cells
    return cells[(cells.penalty == penalty) & cells.method.isin(methods) & (cells.start == 0)]


def _points(axis: Axes, rows: pd.DataFrame, value: str, color: str, marker: str) -> None:
    mean = plotting.over_seeds(rows, "strength", value)
    look = {"color": color, "marker": marker, "elinewidth": 0.8, **MEASURED}
    axis.errorbar(mean.strength, mean["mean"], mean["std"], **look)


def _against_strength(axis: Axes, cells: pd.DataFrame, label: str) -> None:
    scale = "log" if cells.strength.nunique() > 1 else "linear"
    axis.set(xscale=scale, yscale="log", xlabel=STRENGTH, ylabel=label)
    plotting.mark(axis.xaxis, cells.strength)


def _key(figure: Figure, line: str, mark: str) -> None:
    key = plotting.Key()
    key.series(NAMES, linestyle="-", markerfacecolor="white")
    key.add(line)
    key.add(mark, marker="o", **MEASURED)
    key.below(figure)


def _path(record: Record) -> Figure:
    """Residuals of all starts at their worst; errors from the start of ridge."""
    cells = record.cells
    figure, (left, right) = plotting.panels(2, height=2.2)
    for color, marker, name in plotting.styles(NAMES):
        for method in ("reweighting", "proximal gradient"):
            worst = cells[(cells.penalty == name) & (cells.method == method)].groupby("strength").residual.max()
            worst = worst.clip(lower=1e-17)
            if method == "reweighting":
                plotting.line(left, worst.index, worst, color=color)
            elif len(worst):
                left.plot(worst.index, worst, color=color, marker=marker, **MEASURED)
        mean = plotting.over_seeds(_of(record, name, "reweighting"), "strength", "error")
        plotting.line(right, mean.strength, mean["mean"], color=color)
        if len(peer := _of(record, name, "proximal gradient")):
            _points(right, peer, "error", color, marker)
    left.axhline(ALLOWED, color="0.6", linestyle=":", linewidth=0.8)
    for axis, label in ((left, "largest KKT residual"), (right, r"$\|w-w^*\|\ /\ \|w^*\|$")):
        _against_strength(axis, cells, label)
    _key(figure, "reweighting", "proximal gradient")
    return figure


def _support(record: Record) -> Figure:
    """Weights kept: lines by the penalty's own solution, markers by training under masks."""
    figure, (axis,) = plotting.panels(1, height=2.2)
    for color, marker, name in plotting.styles(NAMES):
        mean = plotting.over_seeds(_of(record, name, "reweighting"), "strength", "nonzeros")
        plotting.line(axis, mean.strength, mean["mean"], color=color)
        plotting.band(axis, mean.strength, mean["mean"], mean["std"], color)
        masked = _of(record, name, *MASKED)
        pooled = masked.groupby(["strength", "seed"]).left.mean().reset_index()
        _points(axis, pooled, "left", color, marker)
    axis.axhline(record.config["data"]["nonzeros"], color="0.3", linestyle=":")
    _against_strength(axis, record.cells, "weights left")
    _key(figure, "reweighting", "SGD under masks")
    return figure


def _masks(record: Record) -> Figure:
    """Weights after SGD under masks on those of the penalty's own solution."""
    weights = record.arrays["weights"]
    figure, axes = plotting.titled({name: name for name in NAMES}, columns=3, height=1.5)
    for name, axis in axes.items():
        own = _of(record, name, "reweighting").set_index(["strength", "seed"]).cell
        for color, marker, noise in plotting.styles(MASKED):
            rows = _of(record, name, noise)
            x = weights[own.loc[[*zip(rows.strength, rows.seed, strict=True)]]].ravel()
            y = weights[rows.cell].ravel()
            shown = np.maximum(np.abs(x), np.abs(y)) > SHOWN
            size = 4 if noise == MASKED[0] else 2
            axis.plot(x[shown], y[shown], color=color, marker=marker, markersize=size, markeredgewidth=0.6, **MEASURED)
        ends = np.array(axis.get_xlim())
        axis.plot(ends, ends, color="0.6", linewidth=0.6, zorder=0)
        axis.set(xlabel="weight, solution")
    plotting.label_rows(axes.values(), "weight, under masks")
    key = plotting.Key()
    key.series([f"{noise.capitalize()} masks" for noise in MASKED], **MEASURED)
    key.add("equal", color="0.6", linewidth=0.6)
    key.below(figure)
    return figure
