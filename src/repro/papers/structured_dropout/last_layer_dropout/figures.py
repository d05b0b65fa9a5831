"""How training follows theory, and where it leaves it."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from repro.papers.structured_dropout.last_layer_dropout import TITLES, series, title_of
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> dict[str, Figure]:
    curves = plotting.surviving(record.table("curves"))
    dropped = curves[curves.scheme != "none"].copy()
    if dropped.empty:  # all diverged
        return {}
    lines = {theta: rf"$\theta = {theta:g}$" for theta in sorted(dropped.retain.unique())}
    found = {
        "objective": _objectives(dropped, lines),
        "spectra": _spectra(record),
        "shrinkage": _shrinkage(record),
    }
    if unknown := dropped.scheme[dropped.penalty_weight.isna()].unique().tolist():
        for figure in found.values():
            figure.suptitle(f"no closed form for {', '.join(TITLES.get(scheme, scheme) for scheme in unknown)}")
    return found | {"assumptions": _assumptions(dropped)}


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
    plotting.legend_below(figure, handles, names, columns=4)
    return figure


def _spectra(record: Record) -> Figure:
    """Singular values of the final predictions, markers, on the closed form, lines: one panel a scheme."""
    cells, arrays = plotting.surviving(record.cells), record.arrays
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
    plotting.legend_below(figure, handles, names, columns=7)
    return figure


def _shrinkage(record: Record) -> Figure:
    """Ordering in p: Σσ(U g(X)) / Σσ(Y) against p, closed form as lines."""
    cells, arrays = plotting.surviving(record.cells), record.arrays
    total = arrays["target"].sum()
    figure, (axis,) = plotting.panels(1)
    shown = [*cells.p[cells.scheme != "none"], *arrays.get("curve_p", [])]
    looks = zip(plotting.COLORS, plotting.MARKERS, series(cells).items(), strict=False)
    for color, marker, ((scheme, size), title) in looks:
        rows = cells[(cells.scheme == scheme) & (cells.block_size == size)].sort_values("p")
        measured = arrays["singular_values"][rows.index].sum(1) / total
        if rows.penalty_weight.notna().any():
            axis.plot(arrays["curve_p"], arrays[f"curve_r{size}"] / total, color=color)
        axis.plot(rows.p, measured, linestyle="none", marker=marker, color=color, markerfacecolor="white", label=title)
    axis.set(xlabel=r"$p = 1/(1+\lambda)$", ylabel=r"$\sum_i \sigma_i(U g(X))\ /\ \sum_i \sigma_i(Y)$")
    axis.set_xscale("logit")
    axis.set_xticks([0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99], minor=False)
    axis.xaxis.set_major_formatter("{x:g}")
    if len(set(shown)) > 1:
        axis.set_xlim(min(shown), max(shown))
    axis.legend()
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
