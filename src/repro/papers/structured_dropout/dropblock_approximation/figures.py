"""Disjoint beside original blocks along training."""

import pandas as pd
from matplotlib.figure import Figure

from repro.papers.structured_dropout.dropblock_approximation import PLACES, SCHEMES
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> dict[str, Figure]:
    curves = record.table("curves")
    return {
        "training": _curves(curves, "train_loss", "training loss under dropout", log=True),
        "test": _curves(curves.assign(error=1 - curves.test_accuracy), "error", "test error", log=True),
    }


def _curves(curves: pd.DataFrame, column: str, label: str, *, log: bool) -> Figure:
    """Disjoint beside original along training, a panel a place, block size and θ: mean and band over seeds."""
    curves = curves[curves.step > 0]
    bare = plotting.surviving(curves[curves.scheme == "none"])
    dropped = curves[curves.scheme != "none"]
    groups = list(dropped.groupby(["place", "block_size", "retain"], sort=False))
    figure, axes = plotting.panels(len(groups), columns=3, sharey=True)
    for axis, ((place, size, retain), rows) in zip(axes, groups, strict=True):
        rows = plotting.surviving(rows)
        lines = {"none": bare, **{s: rows[rows.scheme == s] for s in ("disjoint", "original")}}
        if log:
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
