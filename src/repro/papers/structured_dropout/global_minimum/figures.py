"""Training against the closed form, and the width that it needs."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure

from repro.papers.structured_dropout.linear_figures import (
    of,
    rates,
    say_what_has_no_closed_form,
    series,
    spectrum,
    spectrum_key,
)
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> plotting.Drawings:
    found = {"gap": partial(_gap, record), "singular_values": partial(_spectra, record)}
    found["balance"] = partial(_balance, record)
    return found | ({"width_needed": partial(_width_figure, record)} if "width_needed_gap" in record.arrays else {})


def _gap(record: Record) -> Figure:
    figure = _along_training(record, "relative_gap", "relative gap to closed form")
    solved = "; gaps are to L-BFGS's minimum, where it applies" if "solver_objective" in record.cells else ""
    return say_what_has_no_closed_form(figure, record, solved)


def _balance(record: Record) -> Figure:
    figure = _along_training(record, "imbalance", r"std $/$ mean of $\|U_iV_i^\top X\|_F$")
    return say_what_has_no_closed_form(figure, record, "; balance of single units")


def _along_training(record: Record, column: str, label: str) -> Figure:
    """`column` along SGD, a panel a series, mean and band over seeds."""
    curves = record.table("curves")
    if "solver_objective" in curves:
        curves["relative_gap"] = curves.relative_gap.fillna(curves.objective / curves.solver_objective - 1)
    curves = curves[~curves.diverged & (curves.step > 0)]
    # Of all cells: a panel stays, and a colour keeps its rate, where every cell diverged.
    rate, labels = rates(record)
    figure, axes = plotting.titled(series(record), sharey=True)
    for key, axis in axes.items():
        axis.set(xscale="log", yscale="log", xlabel="SGD step")
        mine = of(curves, key)
        for color, marker, value in plotting.styles(labels):
            rows = plotting.over_seeds(mine[mine[rate] == value], "step", column)
            axis.plot(rows.step, rows["mean"], color=color, marker=marker, markersize=2.2, linewidth=0.7)
            plotting.band(axis, rows.step, rows["mean"], rows["std"], color)
    plotting.label_rows(axes.values(), label)
    legend = plotting.Key()
    legend.series(labels.values(), linestyle="-", linewidth=0.7, markersize=2.2)
    legend.below(figure)
    return figure


def _spectra(record: Record) -> Figure:
    rate, labels = rates(record)
    figure, axes = plotting.titled(series(record), sharey=True)
    for key, axis in axes.items():
        mine = of(record.cells, key)
        spectrum(axis, record, [mine[mine[rate] == value] for value in labels])
        plotting.numbered(axis, "index $i$")
    axis.set_ylim(bottom=0)
    plotting.label_rows(axes.values(), r"$\sigma_i(UV^\top X)\ /\ \sigma_1(Y)$")
    spectrum_key(figure, labels.values())
    return say_what_has_no_closed_form(figure, record)


def _width_figure(record: Record) -> Figure:
    arrays = record.arrays
    figure, (axis,) = plotting.panels(1)
    floor = 1e-15  # relative gaps of this size are rounding
    sizes = np.unique(arrays["width_needed_block_size"]).tolist()
    for color, marker, r in plotting.styles(sizes):
        mine = arrays["width_needed_block_size"] == r
        gap = np.maximum(np.abs(arrays["width_needed_gap"][mine]), floor)
        width = arrays["width_needed_width"][mine]
        axis.plot(width, gap, color=color, marker=marker, linewidth=0.8)
        axis.axvline(arrays["width_needed_derived"][mine][0], color=color, linestyle=":", linewidth=0.8)
    axis.axhspan(floor / 10, 1e-10, color="0.92", zorder=0)
    axis.set(yscale="log", xlabel="width $d$", ylabel="relative gap of L-BFGS")
    key = plotting.Key()
    key.series((f"$r = {r}$" for r in sizes), linestyle="-", linewidth=0.8)
    key.add("derived width", linestyle=":", linewidth=0.8)
    key.add("closed form reached", color="0.92", linewidth=5)
    key.below(figure)
    return figure
