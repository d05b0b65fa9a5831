"""Disjoint beside original blocks along training, and their difference beside the margin."""

import pandas as pd
from matplotlib.figure import Figure

from repro.papers.structured_dropout.dropblock_approximation import MARGIN, MEASURES, PLACES, SCHEMES, of_effect
from repro.pipeline import plotting
from repro.pipeline.store import Record

SHORT = {"test_error": "test", "train_loss": "training"}


def figures(record: Record) -> dict[str, Figure]:
    curves = record.table("curves")
    return {
        "margins": _margins(record.cells),
        "training": _curves(curves, "train_loss", "training loss under dropout"),
        "test": _curves(curves, "test_error", "test squared error"),
        "accuracy": _curves(curves.assign(error=1 - curves.test_accuracy), "error", "test error"),
    }


def _margins(cells: pd.DataFrame) -> Figure:
    """disjoint − original of each place and measure, in units of original − none, on the margin."""
    figure, (axis,) = plotting.panels(1)
    rows = [(place, column) for place in PLACES if place in set(cells.place) for column in MEASURES]
    axis.axvspan(-MARGIN, MARGIN, color="0.9")
    axis.axvline(0, color="0.5", lw=0.8)
    axis.axvline(-1, color="0.5", ls=":")
    for height, (place, column) in enumerate(rows):
        found = of_effect(cells, place, column).fraction.dropna()
        axis.plot(found, [height] * len(found), "o", color=plotting.COLORS[0], alpha=0.35)
        axis.plot(found.mean(), height, "o", color=plotting.COLORS[0])
    axis.set_yticks(range(len(rows)), [f"{SHORT[column]}, {place}" for place, column in rows])
    axis.set(xlabel="(disjoint − original) / (original − none)", ylim=(len(rows) - 0.5, -0.5))
    return figure


def _curves(curves: pd.DataFrame, column: str, label: str) -> Figure:
    """Disjoint beside original along training, a panel a place, block size and θ: mean and band over seeds."""
    curves = curves[curves.step > 0]
    bare = plotting.surviving(curves[curves.scheme == "none"])
    dropped = curves[curves.scheme != "none"]
    groups = list(dropped.groupby(["place", "block_size", "retain"], sort=False))
    figure, axes = plotting.panels(len(groups), columns=3, sharey=True)
    for axis, ((place, size, retain), rows) in zip(axes, groups, strict=True):
        rows = plotting.surviving(rows)
        lines = {"none": bare, **{s: rows[rows.scheme == s] for s in ("disjoint", "original")}}
        axis.set_yscale("log")
        plotting.plain_log_ticks(axis)
        for color, marker, (scheme, mine) in zip(
            ("0.5", *plotting.COLORS), plotting.MARKERS, lines.items(), strict=False
        ):
            mean = plotting.over_seeds(mine, "step", column)
            axis.plot(mean.step, mean["mean"], color=color, marker=marker, label=SCHEMES[scheme])
            plotting.band(axis, mean.step, mean["mean"], mean["std"], color)
        blocks = f"$r = {size}$" if place == "features" else rf"${size} \times {size}$"
        axis.set(title=rf"{PLACES[place]}, {blocks}, $\theta = {retain:g}$", xlabel="epoch")
    axes[0].set_ylabel(label)
    plotting.legend_below(figure, *axes[0].get_legend_handles_labels())
    return figure
