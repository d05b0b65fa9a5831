"""How training follows theory, which other theories it rules out, and at what price."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from repro.papers.structured_dropout.last_layer_dropout import TITLES, series, title_of
from repro.papers.structured_dropout.last_layer_dropout.rivals import NORMS, RIVALS, distances
from repro.pipeline import plotting
from repro.pipeline.store import Record

SHOWN = 0.02  # a rival that theory puts nearer than this fraction is the same line


def figures(record: Record) -> dict[str, Figure]:
    curves = plotting.surviving(record.table("curves")).dropna(subset="deterministic")
    cells, longest = plotting.surviving(record.cells), record.cells.epochs.max()
    dropped = curves[(curves.scheme != "none") & (curves.epochs == longest)].copy()
    if dropped.empty:  # all diverged
        return {}
    lines = {theta: rf"$\theta = {theta:g}$" for theta in sorted(dropped.retain.unique())}
    trained = cells[cells.epochs == longest]
    found = {
        "objective": _objectives(dropped, lines),
        "spectra": _spectra(trained, record.arrays),
    }
    known = trained[(trained.scheme != "none") & trained.penalty_weight.notna()]
    if len(known):
        found["rivals"] = _rivals(known, record.arrays)
    if cells.epochs.nunique() > 1:
        found["price"] = _price(cells[cells.scheme != "none"])
    if unknown := dropped.scheme[dropped.penalty_weight.isna()].unique().tolist():
        for figure in found.values():
            figure.suptitle(f"no closed form for {', '.join(TITLES.get(scheme, scheme) for scheme in unknown)}")
    return found | {"assumptions": _assumptions(dropped)}


def _rivals(cells: pd.DataFrame, arrays: dict[str, np.ndarray]) -> Figure:
    """Distance of the measured spectra from the closed form, black, and from those of other theories, against θ."""
    groups = list(cells.groupby(["scheme", "block_size"], sort=False))
    thetas = sorted(cells.retain.unique())
    places = {theta: place for place, theta in enumerate(thetas)}
    figure, axes = plotting.panels(len(groups), sharey=True, height=2.4)
    # two cycles of unlike length: no two rivals have one look
    looks = {name: (plotting.COLORS[i % 6], plotting.MARKERS[i % 7]) for i, name in enumerate(RIVALS)}
    for axis, ((scheme, size), rows) in zip(axes, groups, strict=True):
        found, x = distances(rows, arrays), rows.retain.map(places).to_numpy()
        for i, (name, (color, marker)) in enumerate(looks.items()):
            apart = found.apart[:, i] > SHOWN
            shifted, face = x[apart] + 0.05 * (i - 5), color if name in NORMS else "white"
            axis.plot(shifted, found.rivals[apart, i], marker, color=color, markerfacecolor=face)
        axis.plot(x, found.own, linestyle="none", marker="_", color="black", markersize=12, markeredgewidth=1.5)
        axis.axhline(3 * found.off, color="0.6", linestyle=":", linewidth=0.8)
        axis.set(title=title_of(scheme, size), yscale="log", xlabel=r"$\theta$", xticks=[*places.values()])
        axis.set_xticklabels([f"{theta:g}" for theta in thetas])
    axes[0].set_ylabel(r"$\|\sigma(Ug(X)) - \mathrm{theory}\|\ /\ \|a\|$")
    plotting.plain_log_ticks(axes[0])
    handles = [Line2D([], [], linestyle="none", marker="_", color="black", markersize=12)]
    for name, (color, marker) in looks.items():
        face = color if name in NORMS else "white"
        handles.append(Line2D([], [], linestyle="none", marker=marker, color=color, markerfacecolor=face))
    plotting.legend_below(figure, handles, ["its own norm", *RIVALS])
    return figure


def _price(cells: pd.DataFrame) -> Figure:
    """The distance from the closed form against the epochs of training, each point a network of its own."""
    figure, (axis,) = plotting.panels(1)
    looks = zip(plotting.COLORS, plotting.MARKERS, cells.groupby(["scheme", "block_size", "retain"]), strict=False)
    for color, marker, ((scheme, size, retain), rows) in looks:
        mean = plotting.over_seeds(rows, "epochs", "singular_value_error")
        label = rf"{title_of(scheme, size)}, $\theta = {retain:g}$"
        axis.plot(mean.epochs, mean["mean"], color=color, marker=marker, label=label)
        plotting.band(axis, mean.epochs, mean["mean"], mean["std"], color)
    axis.set(xscale="log", yscale="log", xlabel="epochs of training", ylabel=r"$\|\sigma(Ug(X)) - a\|\ /\ \|a\|$")
    axis.set_xticks(sorted(cells.epochs.unique()), minor=False)
    axis.xaxis.set_major_formatter("{x:g}")
    plotting.plain_log_ticks(axis)
    axis.legend()
    return figure


def _objectives(curves: pd.DataFrame, lines: dict[float, str]) -> Figure:
    """The stochastic objective, markers, on the deterministic one, lines, along training; the closed form dotted."""
    titles = series(curves)
    figure, axes = plotting.panels(len(titles), sharey=True)
    for axis, ((scheme, size), title) in zip(axes, titles.items(), strict=True):
        rows = curves[(curves.scheme == scheme) & (curves.block_size == size)]
        for color, marker, theta in zip(plotting.COLORS, plotting.MARKERS, lines, strict=False):
            mine = rows[rows.retain == theta]
            if mine.empty:
                continue
            expected = plotting.over_seeds(mine, "step", "deterministic")
            sampled = plotting.over_seeds(mine, "step", "monte_carlo")
            axis.plot(expected.step, expected["mean"], color=color)
            axis.plot(
                sampled.step, sampled["mean"], linestyle="none", marker=marker, color=color, markerfacecolor="white"
            )
            if np.isfinite(minimum := mine.closed_form.iloc[0]):
                axis.axhline(minimum, color=color, linestyle=":", linewidth=0.8)
        axis.set(title=title, yscale="log", xlabel="epoch")
    axes[0].set_ylabel(r"objective $/\ \|Y\|_F^2$")
    looks = zip(plotting.COLORS, plotting.MARKERS, lines, strict=False)
    handles = [
        *(Line2D([], [], color=color, marker=marker, linestyle="none") for color, marker, _ in looks),
        Line2D([], [], color="0.3", marker="o", linestyle="none", markerfacecolor="white"),
        Line2D([], [], color="0.3"),
        Line2D([], [], color="0.3", linestyle=":"),
    ]
    names = [*lines.values(), "stochastic (Monte Carlo)", "deterministic", "closed-form minimum"]
    plotting.legend_below(figure, handles, names)
    return figure


def _spectra(cells: pd.DataFrame, arrays: dict[str, np.ndarray]) -> Figure:
    """Singular values of the final predictions, markers, on the closed form, lines: one panel a scheme."""
    largest = arrays["target"][0]
    groups = list(cells.groupby(["scheme", "block_size"], sort=False))
    thetas = sorted(cells.retain[cells.scheme != "none"].unique())
    colors = dict(zip(thetas, plotting.COLORS, strict=False)) | {1.0: "0.4"}
    markers = dict(zip(thetas, plotting.MARKERS, strict=False)) | {1.0: "o"}
    figure, axes = plotting.panels(len(groups), sharey=True)
    for axis, ((scheme, size), rows) in zip(axes, groups, strict=True):
        for theta, mine in rows.groupby("retain"):
            values = arrays["singular_values"][mine.index] / largest
            index = np.arange(1, values.shape[1] + 1)
            if mine.penalty_weight.notna().any():
                axis.plot(index, arrays["closed_form"][mine.index[0]] / largest, color=colors[theta])
            look = {"marker": markers[theta], "color": colors[theta], "markerfacecolor": "white"}
            axis.plot(index, values.mean(0), linestyle="none", **look)
            plotting.band(axis, index, values.mean(0), values.std(0), colors[theta])
        axis.set(title=title_of(scheme, size), xlabel="index $i$", ylim=(0, 1.12))
    axes[0].set_ylabel(r"$\sigma_i(U g(X))\ /\ \sigma_1(Y)$")
    handles = [
        *(Line2D([], [], color=colors[t], marker=markers[t], linestyle="none") for t in thetas),
        Line2D([], [], color="0.3"),
        Line2D([], [], color="0.3", marker="o", linestyle="none", markerfacecolor="white"),
    ]
    names = [*(rf"$\theta = {t:g}$" for t in thetas), "closed form", "network"]
    plotting.legend_below(figure, handles, names)
    return figure


def _assumptions(curves: pd.DataFrame) -> Figure:
    """Above, 1 − tightness; below, the imbalance of the blocks: both 0 where the theory's assumptions hold."""
    titles, thetas = series(curves), sorted(curves.retain.unique())
    figure, axes = plotting.panels(2 * len(titles), columns=len(titles), sharex=True, sharey="row", height=1.5)
    for row, (column, label) in enumerate((("slack", "1 − tightness"), ("imbalance", "std / mean of $\\|U_i g_i\\|$"))):
        for axis, ((scheme, size), title) in zip(axes[row * len(titles) :], titles.items(), strict=False):
            rows = curves[(curves.scheme == scheme) & (curves.block_size == size)]
            for color, theta in zip(plotting.COLORS, thetas, strict=False):
                mine = rows[rows.retain == theta]
                mean = plotting.over_seeds(mine.assign(slack=1 - mine.tightness), "step", column)
                axis.plot(mean.step, mean["mean"], color=color, marker=".", linewidth=0.7)
                plotting.band(axis, mean.step, mean["mean"], mean["std"], color)
            axis.set(yscale="log", title=title if row == 0 else "", xlabel="epoch" if row else "")
        axes[row * len(titles)].set_ylabel(label)
    plotting.legend_below(figure, axes[0].get_lines(), [rf"$\theta = {t:g}$" for t in thetas])
    return figure
