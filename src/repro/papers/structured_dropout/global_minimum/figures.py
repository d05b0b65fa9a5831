"""Training against the closed form, and the width that it needs."""

import numpy as np
from matplotlib.figure import Figure

from repro.papers.structured_dropout.linear_figures import (
    of,
    rates,
    say_what_has_no_closed_form,
    series,
    spectrum,
    styles,
)
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> dict[str, Figure]:
    gap = _along_training(record, "relative_gap", "relative gap to closed form")
    balance = _along_training(record, "imbalance", r"std $/$ mean of $\|U_iV_i^\top X\|_F$")
    solved = "; gaps are to L-BFGS's minimum, where it applies" if "solver_objective" in record.cells else ""
    return {
        "gap": say_what_has_no_closed_form(gap, record, solved),
        "singular_values": say_what_has_no_closed_form(_spectra(record), record),
        "balance": say_what_has_no_closed_form(balance, record, "; balance of single units"),
        **({"width_needed": _width_figure(record)} if "width_needed_gap" in record.arrays else {}),
    }


def _along_training(record: Record, column: str, label: str) -> Figure:
    """`column` along SGD, a panel a series, mean and band over seeds."""
    curves = record.table("curves")
    if "solver_objective" in curves:
        curves["relative_gap"] = curves.relative_gap.fillna(curves.objective / curves.solver_objective - 1)
    curves = curves[~curves.diverged & (curves.step > 0)]
    # Of all cells: a panel stays, and a colour keeps its rate, where every cell diverged.
    names, (rate, labels) = series(record), rates(record)
    figure, axes = plotting.panels(len(names), sharey=True)
    for axis, (key, title) in zip(axes, names.items(), strict=True):
        axis.set(xscale="log", yscale="log", title=title, xlabel="SGD step")
        mine = of(curves, key)
        for color, marker, value in styles(labels):
            rows = plotting.over_seeds(mine[mine[rate] == value], "step", column)
            axis.plot(rows.step, rows["mean"], color=color, marker=marker, markersize=2.2, linewidth=0.7)
            plotting.band(axis, rows.step, rows["mean"], rows["std"], color)
    axes[0].set_ylabel(label)
    plotting.legend_below(figure, axes[0].get_lines(), [*labels.values()])
    return figure


def _spectra(record: Record) -> Figure:
    names, (rate, labels) = series(record), rates(record)
    figure, axes = plotting.panels(len(names), sharey=True)
    for axis, (key, title) in zip(axes, names.items(), strict=True):
        mine = of(record.cells, key)
        handles = spectrum(axis, record, [mine[mine[rate] == value] for value in labels])
        axis.set(title=title, xlabel="index $i$")
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel(r"$\sigma_i(UV^\top X)\ /\ \sigma_1(Y)$")
    plotting.legend_below(figure, handles, [*labels.values(), "closed form", "SGD"])
    return figure


def _width_figure(record: Record) -> Figure:
    arrays = record.arrays
    figure, (axis,) = plotting.panels(1)
    floor = 1e-15  # relative gaps of this size are rounding
    for color, marker, r in styles(np.unique(arrays["width_needed_block_size"])):
        mine = arrays["width_needed_block_size"] == r
        gap = np.maximum(np.abs(arrays["width_needed_gap"][mine]), floor)
        width = arrays["width_needed_width"][mine]
        axis.plot(width, gap, color=color, marker=marker, linewidth=0.8, label=f"$r = {r}$")
        axis.axvline(arrays["width_needed_derived"][mine][0], color=color, linestyle=":", linewidth=0.8)
    axis.axhspan(floor / 10, 1e-10, color="0.92", zorder=0)
    axis.set(yscale="log", xlabel="width $d$", ylabel="relative gap of L-BFGS")
    axis.text(
        0.98, 1e-11, "closed form reached", ha="right", transform=axis.get_yaxis_transform(), color="0.35", fontsize=7
    )
    axis.legend()
    return figure
