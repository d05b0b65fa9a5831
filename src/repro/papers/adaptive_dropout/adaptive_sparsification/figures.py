"""Sparse networks: along training, and error against sparsity."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from repro.papers.adaptive_dropout.adaptive_sparsification import PRUNED, TITLES
from repro.pipeline import plotting
from repro.pipeline.plotting import COLORS, DASHED
from repro.pipeline.store import Record

# Colour, line and marker; the family of variational dropout is of two colours, what has no penalty is black.
LOOKS = {
    "plain": (6, "-", "o"),
    "log_sum": (0, "-", "o"),
    "ada_tikhonov": (1, DASHED, "s"),
    "ada_prox": (2, "-", "^"),
    "eta_trick": (3, "-", "D"),
    "dropout": (6, DASHED, "v"),
    "var_drop": (5, DASHED, "<"),
    "var_drop_lr": (5, "-", ">"),
    "var_drop_lr_ar": (4, "-", "p"),
    "magnitude": (6, "none", "P"),
    "random": (6, "none", "X"),
}


def figures(record: Record) -> plotting.Drawings:
    return {
        "training": partial(_training, record),
        "tradeoff": partial(_tradeoff, record),
    }


def _named(methods: "pd.Series[str]") -> list[str]:
    return [name for name in TITLES if name in set(methods)]


def _key(figure: Figure, names: Sequence[str], marks: bool) -> None:
    key = plotting.Key()
    for name in names:
        color, line, marker = LOOKS[name]
        look = {"linestyle": "none", "marker": marker, "markerfacecolor": "white"} if marks else {"linestyle": line}
        key.add(TITLES[name], color=COLORS[color], **look)
    key.below(figure)


def _training(record: Record) -> Figure:
    curves = record.table("curves")
    curves = curves[(curves.factor == 1) & ~curves.method.isin(PRUNED)]
    names = _named(curves.method)
    figure, (left, right) = plotting.panels(2, height=2.4)
    for axis, column, label in (
        (left, "left", "share of weights left"),
        (right, "pruned_error", "test error, pruned"),
    ):
        for name in names:
            color, line, _ = LOOKS[name]
            mean = plotting.over_seeds(curves[curves.method == name], "step", column)
            axis.plot(mean.step, mean["mean"], color=COLORS[color], linestyle=line)
            plotting.band(axis, mean.step, mean["mean"], mean["std"], COLORS[color])
        plotting.numbered(axis, "epoch")
        axis.set(yscale="log", ylabel=label)
    _key(figure, names, marks=False)
    return figure


def _tradeoff(record: Record) -> Figure:
    """Error of the pruned network against its sparsity, and against the error of the network as trained."""
    cells = record.cells
    names = _named(cells.method)
    figure, (left, right) = plotting.panels(2, height=2.4)
    for name in names:
        color, _, marker = LOOKS[name]
        mine = cells[cells.method == name]
        stats = mine.groupby("factor")[["left", "pruned_error", "error"]].agg(["mean", "std"]).fillna(0.0)
        if len(stats) > 1:
            left.plot(stats.left["mean"], stats.pruned_error["mean"], color=COLORS[color], linewidth=0.6)
        for axis, x in ((left, stats.left), (right, stats.error)):
            if axis is left or name not in PRUNED:
                look = {"color": COLORS[color], "marker": marker, "elinewidth": 0.8, **plotting.MEASURED}
                y = stats.pruned_error
                axis.errorbar(x["mean"], y["mean"], y["std"], x["std"], **look)
    ends = [cells.error.min(), cells[["error", "pruned_error"]].max(axis=None)]
    right.plot(ends, ends, color="0.6", linewidth=0.6)
    for axis, label in ((left, "share of weights left"), (right, "test error, as trained")):
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel="test error, pruned")
    _key(figure, names, marks=True)
    return figure
