"""Figures that several linear experiments share: the stochastic objective beside the deterministic one."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.pipeline import plotting
from repro.pipeline.plotting import MEASURED
from repro.pipeline.store import Record

TITLES = {
    "bernoulli": "Dropout",
    "dropblock": "disjoint DropBlock",
    "overlapping_dropblock": "overlapping DropBlock",
    "dropconnect_U": "DropConnect on $U$",
    "dropconnect_V": "DropConnect on $V$",
    "gaussian": "correlated Gaussian",
}

SYMBOLS = {"p": "p", "retain": r"\theta"}
RATES = {"p": "retain probability $p$ ($d = r$)", "retain": r"retain probability $\theta$"}

# Singular values of a network below this fraction of its largest are not worth a point.
VISIBLE = 0.01


def series(record: Record) -> dict[tuple[str, int], str]:
    """What a figure tells apart, (scheme, block size), and how it calls it: by r where that alone differs."""
    sizes = {name: sorted({*rows.block_size.tolist()}) for name, rows in record.cells.groupby("scheme", sort=False)}
    names = TITLES if record.config["dropout"].get("correlation") else TITLES | {"gaussian": "Gaussian"}

    def label(scheme: str, size: int) -> str:
        several = len(sizes[scheme]) > 1
        if len(sizes) == 1 and (several or "dropblock" in scheme):
            return f"$r = {size}$"
        name = names.get(scheme, scheme)
        return f"{name.removesuffix(' DropBlock')}, $r = {size}$" if several else name

    return {(scheme, size): label(scheme, size) for scheme, found in sizes.items() for size in found}


def of(rows: pd.DataFrame, key: tuple[str, int]) -> pd.DataFrame:
    """The rows of one of the series."""
    return rows[(rows.scheme == key[0]) & (rows.block_size == key[1])]


def panels_of(record: Record) -> dict[str, pd.DataFrame]:
    """The curves of each series by its label, without the cells that diverged."""
    curves = record.table("curves")
    return {label: plotting.surviving(of(curves, key)) for key, label in series(record).items()}


def rates(record: Record) -> tuple[str, dict[float, str]]:
    """The column of the rate that was asked for, p or θ, and the labels of its values, increasing."""
    column = "p" if record.config["dropout"]["p"] else "retain"
    return column, {rate: f"${SYMBOLS[column]} = {rate:g}$" for rate in sorted(record.cells[column].unique().tolist())}


def say_what_has_no_closed_form(figure: Figure, record: Record, instead: str = "") -> Figure:
    """Notes on the figure which of the series have none; their lines are left out."""
    missing = [name for key, name in series(record).items() if of(record.cells, key).closed_form.isna().any()]
    if missing:
        plotting.note(figure, f"no closed form for {', '.join(missing)}{instead}")
    return figure


def objective_curves(
    panels: Mapping[str, pd.DataFrame], by: str, labels: Mapping[float, str], *, dropout: bool = False
) -> Figure:
    """Monte-Carlo markers on the deterministic objective of the same iterates, and deterministic descent dashed.

    Args:
        panels: title → rows of curves with their cells' configuration.
        by: the column whose values are told apart by colour.
        labels: value of that column → its label.
        dropout: draw Dropout's deterministic objective of the same iterates too, dotted.
    """
    figure, axes = plotting.titled({title: title for title in panels}, sharey=True)
    for title, axis in axes.items():
        rows = panels[title]
        axis.set(xscale="log", yscale="log", xlabel="step + 1")
        for color, marker, value in plotting.styles(labels):
            mine = rows[rows[by] == value]
            if mine.empty:
                continue
            expected = plotting.over_seeds(mine, "step", "deterministic")
            sampled = plotting.over_seeds(mine, "step", "monte_carlo")
            descent = plotting.over_seeds(mine, "step", "deterministic_training")
            x = expected.step + 1
            axis.plot(x, expected["mean"], color=color)
            plotting.band(axis, x, expected["mean"], expected["std"], color)
            axis.plot(x, descent["mean"], color=color, linestyle=plotting.DASHED, linewidth=0.8)
            if dropout:
                other = plotting.over_seeds(mine, "step", "dropout_objective")
                axis.plot(x, other["mean"], color="black", linestyle=":", zorder=3)
            axis.plot(x, sampled["mean"], marker=marker, color=color, **MEASURED)
    plotting.label_rows(axes.values(), r"objective $/\ \|Y\|_2^2$")
    key = plotting.Key()
    key.series(labels.values())
    key.add("stochastic objective (Monte Carlo)", marker="o", **MEASURED)
    key.add("deterministic, same iterates")
    key.add("deterministic descent", linestyle=plotting.DASHED, linewidth=0.8)
    if dropout:
        key.add("Dropout's objective", color="black", linestyle=":")
    key.below(figure)
    return figure


def standard_distances(panels: Mapping[str, pd.DataFrame], by: str, labels: Mapping[float, str]) -> Figure:
    """(Monte Carlo − deterministic) in standard errors at every logged step; grey: against Dropout's objective."""
    figure, axes = plotting.titled({title: title for title in panels}, sharey=True)
    for title, axis in axes.items():
        rows = panels[title]
        if rows.empty:  # all of them diverged
            continue
        wrong = (rows.monte_carlo - rows.dropout_objective) / rows.standard_error
        axis.plot(rows.step + 1, wrong, linestyle="none", marker=".", markersize=2, color="0.7", zorder=1)
        for color, marker, value in plotting.styles(labels):
            mine = rows[rows[by] == value]
            distance = (mine.monte_carlo - mine.deterministic) / mine.standard_error
            axis.plot(mine.step + 1, distance, linestyle="none", marker=marker, markersize=2.2, color=color, zorder=2)
        axis.axhspan(-3, 3, color="0.92", zorder=0)
        axis.axhline(0, color="0.4", linewidth=0.6)
        axis.set(xscale="log", xlabel="step + 1")
        axis.set_yscale("symlog", linthresh=4, linscale=1.5)
        axis.set_yticks([-1000, -100, -10, -3, 0, 3, 10, 100, 1000])
        axis.yaxis.set_major_formatter("{x:g}")
    everything = pd.concat(list(panels.values()))
    wrong = (everything.monte_carlo - everything.dropout_objective) / everything.standard_error
    wrong = wrong[np.isfinite(wrong)]  # not where masks were so few that all were alike
    axis.set_ylim(1.5 * min([-3, *wrong]), 1.5 * max([3, *wrong]))
    plotting.label_rows(axes.values(), "distance / standard error")
    key = plotting.Key()
    key.series(labels.values())
    key.add("negative control: against Dropout's objective", color="0.7", marker=".", linestyle="none")
    key.below(figure)
    return figure


def spectrum(axis: Axes, record: Record, groups: Sequence[pd.DataFrame]) -> None:
    """Singular values of groups of cells, one colour each: closed form, where there is one, and SGD over seeds."""
    measured, theory = record.arrays["singular_values"], record.arrays["closed_form"]
    shown = 1
    for color, marker, cells in plotting.styles(groups):
        mine = cells[~cells.diverged].cell.to_numpy()
        if not len(mine):
            continue
        reference, found = theory[mine[0]], measured[mine]
        index = np.arange(1, len(reference) + 1)
        if np.isnan(reference).any():
            rank = int((found.mean(0) > VISIBLE * found.mean(0)[0]).sum())
        else:
            rank = int((reference > 0).sum())
            axis.plot(index, reference, color=color)
        shown = max(shown, min(len(reference), rank + 2))
        points = slice(0, rank + 2, max(1, rank // 12))
        axis.plot(index[points], found.mean(0)[points], marker=marker, color=color, **MEASURED)
        plotting.band(axis, index, found.mean(0), found.std(0), color)
    axis.set_xlim(0.5, shown + 0.5)


def spectrum_key(figure: Figure, names: Iterable[str]) -> None:
    """The legend of panels of `spectrum`."""
    key = plotting.Key()
    key.series(names)
    key.add("closed form")
    key.add("SGD", marker="o", **MEASURED)
    key.below(figure)
