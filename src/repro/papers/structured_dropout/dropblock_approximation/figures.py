"""Disjoint beside original blocks along training, and their difference beside the margin."""

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from repro.papers.structured_dropout.dropblock_approximation import MARGIN, MEASURES, PLACES, SCHEMES, of_effect
from repro.pipeline import plotting
from repro.pipeline.store import Record

SHORT = {"test_error": "test", "train_loss": "training"}


def figures(record: Record) -> plotting.Drawings:
    curves = record.table("curves")
    return {
        "margins": partial(_margins, record.cells),
        "training": partial(_curves, curves, "train_loss", "training loss under dropout"),
        "test": partial(_curves, curves, "test_error", "test squared error"),
        "accuracy": partial(_curves, curves.assign(error=1 - curves.test_accuracy), "error", "test error"),
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
    if len(cells[cells.place == "features"].drop_duplicates(["block_size", "retain"])) > 1:
        plotting.note(figure, "of each seed, the mean over block sizes and θ")
    return figure


def _curves(curves: pd.DataFrame, column: str, label: str) -> Figure:
    """Disjoint beside original along training, a panel a place, block size and θ: mean and band over seeds."""
    curves = curves[curves.step > 0]
    bare = plotting.surviving(curves[curves.scheme == "none"])
    dropped = curves[curves.scheme != "none"]
    titles = {
        key: rf"{PLACES[key[0]]}, {_blocks(*key[:2])}, $\theta = {key[2]:g}$"
        for key in dropped.groupby(["place", "block_size", "retain"], sort=False).groups
    }
    figure, axes = plotting.titled(titles, columns=3, sharey=True)
    looks = plotting.styles(("disjoint", "original"))
    for (place, size, retain), axis in axes.items():
        rows = dropped[(dropped.place == place) & (dropped.block_size == size) & (dropped.retain == retain)]
        axis.set(yscale="log")
        plotting.numbered(axis, "epoch")
        for color, marker, scheme in [("0.5", "o", "none"), *looks]:
            mine = bare if scheme == "none" else plotting.surviving(rows[rows.scheme == scheme])
            mean = plotting.over_seeds(mine, "step", column)
            axis.plot(mean.step, mean["mean"], color=color, marker=marker)
            plotting.band(axis, mean.step, mean["mean"], mean["std"], color)
    plotting.label_rows(axes.values(), label)
    key = plotting.Key()
    key.add(SCHEMES["none"], color="0.5", marker="o")
    key.series((SCHEMES[scheme] for *_, scheme in looks), linestyle="-")
    key.below(figure)
    return figure


def _blocks(place: str, size: int) -> str:
    return f"$r = {size}$" if place == "features" else rf"${size} \times {size}$"
