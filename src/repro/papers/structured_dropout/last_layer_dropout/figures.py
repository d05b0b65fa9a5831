"""How training follows theory, which other theories it rules out, and at what price."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from repro.papers.structured_dropout.last_layer_dropout import TITLES, series, title_of
from repro.papers.structured_dropout.last_layer_dropout.rivals import NORMS, RIVALS, distances
from repro.pipeline import plotting
from repro.pipeline.plotting import MEASURED
from repro.pipeline.store import Record

SHOWN = 0.02  # a rival that theory puts nearer than this fraction is the same line


def figures(record: Record) -> plotting.Drawings:
    curves = plotting.surviving(record.table("curves")).dropna(subset="deterministic")
    cells, longest = plotting.surviving(record.cells), record.cells.epochs.max()
    dropped = curves[(curves.scheme != "none") & (curves.epochs == longest)]
    if dropped.empty:  # all diverged
        return {}
    trained = cells[cells.epochs == longest]
    found = {
        "objective": partial(_noted, dropped, _objectives, dropped),
        "spectra": partial(_noted, dropped, _spectra, trained, record.arrays),
    }
    known = trained[(trained.scheme != "none") & trained.penalty_weight.notna()]
    if len(known):
        found["rivals"] = partial(_noted, dropped, _rivals, known, record.arrays)
    if cells.epochs.nunique() > 1:
        found["price"] = partial(_noted, dropped, _price, cells[cells.scheme != "none"])
    return found | {"assumptions": partial(_assumptions, dropped)}


def _noted(dropped: pd.DataFrame, draw: Callable[..., Figure], *arguments: object) -> Figure:
    """The figure, with a note of which noises have no closed form."""
    figure = draw(*arguments)
    if unknown := dropped.scheme[dropped.penalty_weight.isna()].unique().tolist():
        plotting.note(figure, f"no closed form for {', '.join(TITLES.get(scheme, scheme) for scheme in unknown)}")
    return figure


def _labels(thetas: Sequence[float]) -> list[str]:
    return [rf"$\theta = {theta:g}$" for theta in thetas]


def _of(rows: pd.DataFrame, key: tuple[str, int]) -> pd.DataFrame:
    return rows[(rows.scheme == key[0]) & (rows.block_size == key[1])]


def _titles(cells: pd.DataFrame) -> dict[tuple[str, int], str]:
    """Every noise and none, each with its whole name."""
    groups = cells.groupby(["scheme", "block_size"], sort=False).groups
    return {(scheme, size): title_of(scheme, size) for scheme, size in groups}


def _rivals(cells: pd.DataFrame, arrays: dict[str, np.ndarray]) -> Figure:
    """Distance of the measured spectra from the closed form, black, and from those of other theories, against θ."""
    thetas = sorted(cells.retain.unique())
    bar = min(12, max(3, 36 / len(thetas)))
    places = {theta: place for place, theta in enumerate(thetas)}
    figure, axes = plotting.titled(_titles(cells), sharey=True, height=2.4)
    key = plotting.Key()
    key.add("its own norm", linestyle="none", marker="_", color="black", markersize=12)
    # two cycles of unlike length: no two rivals have one look
    looks = {name: (plotting.COLORS[i % 6], plotting.MARKERS[i % 7]) for i, name in enumerate(RIVALS)}
    for name, (color, marker) in looks.items():
        face = color if name in NORMS else "white"
        key.add(name, linestyle="none", marker=marker, color=color, markerfacecolor=face)
    for noise, axis in axes.items():
        rows = _of(cells, noise)
        found, x = distances(rows, arrays), rows.retain.map(places).to_numpy()
        for i, (name, (color, marker)) in enumerate(looks.items()):
            apart = found.apart[:, i] > SHOWN
            shifted, face = x[apart] + 0.05 * (i - 5), color if name in NORMS else "white"
            axis.plot(shifted, found.rivals[apart, i], marker, color=color, markerfacecolor=face)
        axis.plot(x, found.own, linestyle="none", marker="_", color="black", markersize=bar, markeredgewidth=1.5)
        axis.axhline(3 * found.off, color="0.6", linestyle=":", linewidth=0.8)
        axis.set(yscale="log", xlabel=r"retain probability $\theta$", xlim=(-0.5, len(thetas) - 0.5))
        plotting.mark(axis.xaxis, [*places.values()])
        axis.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{thetas[round(place)]:g}"))
    plotting.label_rows(axes.values(), r"$\|\sigma(Ug(X)) - \mathrm{theory}\|\ /\ \|a\|$")
    key.below(figure)
    return figure


def _price(cells: pd.DataFrame) -> Figure:
    """The distance from the closed form against the epochs of training, each point a network of its own."""
    figure, (axis,) = plotting.panels(1)
    groups = plotting.some(dict(list(cells.groupby(["scheme", "block_size", "retain"]))), figure)
    for color, marker, rows in plotting.styles(groups.values()):
        mean = plotting.over_seeds(rows, "epochs", "singular_value_error")
        axis.plot(mean.epochs, mean["mean"], color=color, marker=marker)
        plotting.band(axis, mean.epochs, mean["mean"], mean["std"], color)
    axis.set(xscale="log", yscale="log", xlabel="epochs of training", ylabel=r"$\|\sigma(Ug(X)) - a\|\ /\ \|a\|$")
    plotting.mark(axis.xaxis, cells.epochs)
    key = plotting.Key()
    names = (rf"{title_of(scheme, size)}, $\theta = {retain:g}$" for scheme, size, retain in groups)
    key.series(names, linestyle="-")
    key.below(figure)
    return figure


def _objectives(curves: pd.DataFrame) -> Figure:
    """The stochastic objective, markers, on the deterministic one, lines, along training; the closed form dotted."""
    thetas = sorted(curves.retain.unique())
    figure, axes = plotting.titled(series(curves), sharey=True)
    for noise, axis in axes.items():
        rows = _of(curves, noise)
        for color, marker, theta in plotting.styles(thetas):
            mine = rows[rows.retain == theta]
            if mine.empty:
                continue
            expected = plotting.over_seeds(mine, "step", "deterministic")
            sampled = plotting.over_seeds(mine, "step", "monte_carlo")
            axis.plot(expected.step, expected["mean"], color=color)
            axis.plot(sampled.step, sampled["mean"], marker=marker, color=color, **MEASURED)
            if np.isfinite(minimum := mine.closed_form.iloc[0]):
                axis.axhline(minimum, color=color, linestyle=":", linewidth=0.8)
        axis.set(yscale="log", xlabel="epoch")
    plotting.label_rows(axes.values(), r"objective $/\ \|Y\|_F^2$")
    key = plotting.Key()
    key.series(_labels(thetas))
    key.add("stochastic (Monte Carlo)", marker="o", **MEASURED)
    key.add("deterministic")
    key.add("closed-form minimum", linestyle=":")
    key.below(figure)
    return figure


def _spectra(cells: pd.DataFrame, arrays: dict[str, np.ndarray]) -> Figure:
    """Singular values of the final predictions, markers, on the closed form, lines: one panel a scheme."""
    largest = arrays["target"][0]
    thetas = sorted(cells.retain[cells.scheme != "none"].unique())
    looks = {theta: (color, marker) for color, marker, theta in plotting.styles(thetas)} | {1.0: ("0.4", "o")}
    figure, axes = plotting.titled(_titles(cells), sharey=True)
    for noise, axis in axes.items():
        for theta, mine in _of(cells, noise).groupby("retain"):
            values, (color, marker) = arrays["singular_values"][mine.cell] / largest, looks[theta]
            index = np.arange(1, values.shape[1] + 1)
            if mine.penalty_weight.notna().any():
                axis.plot(index, arrays["closed_form"][mine.cell.iloc[0]] / largest, color=color)
            axis.plot(index, values.mean(0), marker=marker, color=color, **MEASURED)
            plotting.band(axis, index, values.mean(0), values.std(0), color)
        axis.set(ylim=(0, 1.12))
        plotting.numbered(axis, "index $i$")
    plotting.label_rows(axes.values(), r"$\sigma_i(U g(X))\ /\ \sigma_1(Y)$")
    key = plotting.Key()
    key.series(_labels(thetas))
    key.add("closed form")
    key.add("network", marker="o", **MEASURED)
    key.below(figure)
    return figure


def _assumptions(curves: pd.DataFrame) -> Figure:
    """Above, 1 − tightness; below, the imbalance of the blocks: both 0 where the theory's assumptions hold."""
    thetas = sorted(curves.retain.unique())
    figure, (upper, lower) = plotting.stacked(series(curves), rows=2, height=1.5)
    curves = curves.assign(slack=1 - curves.tightness)
    lines = (("slack", "1 − tightness", upper), ("imbalance", "std / mean of $\\|U_i g_i\\|$", lower))
    for column, label, axes in lines:
        for noise, axis in axes.items():
            rows = _of(curves, noise)
            for color, _, theta in plotting.styles(thetas):
                mean = plotting.over_seeds(rows[rows.retain == theta], "step", column)
                axis.plot(mean.step, mean["mean"], color=color, marker=".", linewidth=0.7)
                plotting.band(axis, mean.step, mean["mean"], mean["std"], color)
            axis.set(yscale="log", xlabel="epoch" if axes is lower else "")
        plotting.share_y(axes.values())
        plotting.label_rows(axes.values(), label)
    key = plotting.Key()
    key.series(_labels(thetas), linestyle="-", marker=".", linewidth=0.7)
    key.below(figure)
    return figure
