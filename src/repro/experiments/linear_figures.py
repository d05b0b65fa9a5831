"""Figures that several linear experiments share: the stochastic objective beside the deterministic one."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from repro import plotting
from repro.plotting import COLORS, MARKERS
from repro.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def objective_curves(
    panels: Mapping[str, pd.DataFrame], by: str, labels: Mapping[Any, str], *, dropout: bool = False
) -> "Figure":
    """Monte-Carlo markers on the deterministic objective of the same iterates, and deterministic descent dashed.

    Args:
        panels: title → rows of curves with their cells' configuration.
        by: the column whose values are told apart by colour.
        labels: value of that column → its label.
        dropout: draw Dropout's deterministic objective of the same iterates too, dotted.
    """
    figure, axes = plotting.panels(len(panels), sharey=True)
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        axis.set(title=title)
        if rows.empty:  # all of them diverged
            continue
        for color, marker, value in zip(COLORS, MARKERS, labels, strict=False):
            mine = rows[rows[by] == value]
            if mine.empty:
                continue
            expected = plotting.over_seeds(mine, "step", "deterministic")
            sampled = plotting.over_seeds(mine, "step", "monte_carlo")
            descent = plotting.over_seeds(mine, "step", "deterministic_training")
            x = expected.step + 1
            axis.plot(x, expected["mean"], color=color)
            plotting.band(axis, x, expected["mean"], expected["std"], color)
            axis.plot(x, descent["mean"], color=color, linestyle=(0, (3, 2)), linewidth=0.8)
            if dropout:
                other = plotting.over_seeds(mine, "step", "dropout_objective")
                axis.plot(x, other["mean"], color="black", linestyle=":", zorder=3)
            axis.plot(x, sampled["mean"], linestyle="none", marker=marker, color=color, markerfacecolor="white")
        axis.set(xscale="log", yscale="log", xlabel="step + 1")
        plotting.plain_log_ticks(axis)
    axes[0].set_ylabel(r"objective $/\ \|Y\|_2^2$")
    handles = [
        *(
            Line2D([], [], color=c, marker=m, linestyle="none")
            for c, m, _ in zip(COLORS, MARKERS, labels, strict=False)
        ),
        Line2D([], [], color="0.3", marker="o", linestyle="none", markerfacecolor="white"),
        Line2D([], [], color="0.3"),
        Line2D([], [], color="0.3", linestyle=(0, (3, 2)), linewidth=0.8),
    ]
    names = [
        *labels.values(),
        "stochastic objective (Monte Carlo)",
        "deterministic, same iterates",
        "deterministic descent",
    ]
    if dropout:
        handles.append(Line2D([], [], color="black", linestyle=":"))
        names.append("Dropout's objective")
    plotting.legend_below(figure, handles, names, columns=4)
    return figure


def standard_distances(panels: Mapping[str, pd.DataFrame], by: str, labels: Mapping[Any, str]) -> "Figure":
    """(Monte Carlo − deterministic) in standard errors at every logged step; grey: against Dropout's objective."""
    figure, axes = plotting.panels(len(panels), sharey=True)
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        axis.set(title=title)
        if rows.empty:  # all of them diverged
            continue
        wrong = (rows.monte_carlo - rows.dropout_objective) / rows.standard_error
        axis.plot(rows.step + 1, wrong, linestyle="none", marker=".", markersize=2, color="0.7", zorder=1)
        for color, marker, value in zip(COLORS, MARKERS, labels, strict=False):
            mine = rows[rows[by] == value]
            distance = (mine.monte_carlo - mine.deterministic) / mine.standard_error
            axis.plot(
                mine.step + 1,
                distance,
                linestyle="none",
                marker=marker,
                markersize=2.2,
                color=color,
                zorder=2,
            )
        axis.axhspan(-3, 3, color="0.92", zorder=0)
        axis.axhline(0, color="0.4", linewidth=0.6)
        axis.set(xscale="log", xlabel="step + 1")
        axis.set_yscale("symlog", linthresh=4, linscale=1.5)
        axis.set_yticks([-1000, -100, -10, -3, 0, 3, 10, 100, 1000])
        axis.yaxis.set_major_formatter("{x:g}")
    everything = pd.concat(list(panels.values()))
    wrong = (everything.monte_carlo - everything.dropout_objective) / everything.standard_error
    axes[0].set_ylim(min(-4, 1.5 * wrong.min()), max(4, 1.5 * wrong.max()))
    axes[0].set_ylabel("distance / standard error")
    handles = [
        *(
            Line2D([], [], color=c, marker=m, linestyle="none")
            for c, m, _ in zip(COLORS, MARKERS, labels, strict=False)
        ),
        Line2D([], [], color="0.7", marker=".", linestyle="none"),
    ]
    names = [*labels.values(), "negative control: against Dropout's objective"]
    plotting.legend_below(figure, handles, names)
    return figure


def spectrum(axis: "Axes", record: Record, cells: pd.DataFrame, by: str, values: Sequence[Any]) -> list[Any]:
    """Singular values of the cells, one colour for each of `values` of column `by`: closed form and SGD over seeds.

    Returns:
        Legend handles: one for each of `values`, then theory and measurement.
    """
    measured, theory = record.arrays["singular_values"], record.arrays["closed_form"]
    shown = 1
    for color, marker, value in zip(COLORS, MARKERS, values, strict=False):
        mine = cells[(cells[by] == value) & ~cells.diverged].cell.to_numpy()
        if not len(mine):
            continue
        reference, found = theory[mine[0]], measured[mine]
        rank = int((reference > 0).sum())
        shown = max(shown, min(len(reference), rank + 2))
        index = np.arange(1, len(reference) + 1)
        axis.plot(index, reference, color=color)
        every = max(1, rank // 12)
        points = slice(0, rank + 2, every)
        axis.plot(
            index[points],
            found.mean(0)[points],
            linestyle="none",
            marker=marker,
            color=color,
            markerfacecolor="white",
        )
        plotting.band(axis, index, found.mean(0), found.std(0), color)
    axis.set_xlim(0.5, shown + 0.5)
    return [
        *(
            Line2D([], [], color=c, marker=m, linestyle="none")
            for c, m, _ in zip(COLORS, MARKERS, values, strict=False)
        ),
        Line2D([], [], color="0.3"),
        Line2D([], [], color="0.3", marker="o", linestyle="none", markerfacecolor="white"),
    ]
