"""Every method beside VD-EB; how right its confidence is; what it does not know; what the weights become."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from repro.papers.variational_structured_dropout.network_figures import paired
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> dict[str, Figure]:
    cells = record.cells
    most = f"VSD {max(record.config['options']['reflections'])}"
    shown = [
        "map",
        next(arm for arm in cells[cells.chosen].arm if arm.startswith("dropout")),
        "VD-EB",
        most,
        "ensemble",
    ]
    names = {"error": "error", "nll": "NLL, nats", "brier": "Brier score", "ece": "ECE", "auroc": "AUROC"}
    return {
        "quality": paired(cells, {column: f"{name} − VD-EB's" for column, name in names.items()}, height=1.6),
        "elbo": paired(cells[cells.elbo.notna()], {"elbo": "ELBO − VD-EB's, nats an example"}),
        "reliability": _reliability(record, shown),
        "entropy": _entropy(record, shown),
        "norms": _norms(record.table("curves"), [arm for arm in shown if arm != "ensemble"]),
        "structure": _structure(record, most),
    }


def _problems(record: Record) -> list[str]:
    return list(dict.fromkeys(record.cells.problem))


def _reliability(record: Record, arms: list[str]) -> Figure:
    problems = _problems(record)
    figure, axes = plotting.panels(len(problems), columns=2, height=2.4, sharey=True)
    for axis, problem in zip(axes, problems, strict=True):
        for arm, color, marker in zip(arms, plotting.COLORS, plotting.MARKERS, strict=False):
            share, accuracy, confidence = np.moveaxis(record.arrays[f"reliability/{problem}/{arm}"], 1, 0)
            mass = share.sum(0)
            kept = mass > 0.002 * share.sum()
            mean = [(share * values).sum(0)[kept] / mass[kept] for values in (confidence, accuracy)]
            axis.plot(*mean, marker=marker, color=color, markerfacecolor="white")
        axis.plot([0, 1], [0, 1], color="0.4", linewidth=0.6)
        axis.set(title=problem, xlabel="confidence")
    axes[0].set_ylabel("accuracy")
    plotting.legend_below(figure, axes[0].get_lines()[: len(arms)], arms)
    return figure


def _entropy(record: Record, arms: list[str]) -> Figure:
    problems = _problems(record)
    figure, axes = plotting.panels(len(problems), columns=2, height=2.2, sharey=True)
    for axis, problem in zip(axes, problems, strict=True):
        for arm, color in zip(arms, plotting.COLORS, strict=False):
            start = f"entropy/{problem}/{arm}/"
            for name in sorted(name for name in record.arrays if name.startswith(start)):
                values, known = record.arrays[name], name.endswith("/known")
                axis.plot(np.linspace(0, 1, len(values)), values, color=color, linestyle="-" if known else "--")
        axis.set(title=problem, xlabel="entropy / log(classes)")
    axes[0].set_ylabel("share of images")
    handles = [axes[0].plot([], [], color=color)[0] for color, _ in zip(plotting.COLORS, arms, strict=False)]
    plotting.legend_below(figure, handles, arms)
    return figure


def _norms(curves: pd.DataFrame, arms: list[str]) -> Figure:
    curves = curves[curves.problem == curves.problem.iloc[0]]
    layers = sorted(curves.layer.unique())
    figure, axes = plotting.panels(2 * len(layers), columns=len(layers), sharex=True)
    labels = [(column, layer) for column in ("spectral_norm", "stable_rank") for layer in layers]
    for axis, (column, layer) in zip(axes, labels, strict=True):
        for arm, color, marker in zip(arms, plotting.COLORS, plotting.MARKERS, strict=False):
            rows = plotting.over_seeds(curves[(curves.arm == arm) & (curves.layer == layer)], "step", column)
            axis.plot(rows.step, rows["mean"], color=color, marker=marker, markerfacecolor="white")
        axis.set(title=f"layer {layer + 1}" if column == "spectral_norm" else "", xlabel="step")
    axes[0].set_ylabel("spectral norm")
    axes[len(layers)].set_ylabel("stable rank")
    plotting.legend_below(figure, axes[0].get_lines(), arms)
    return figure


def _structure(record: Record, arm: str) -> Figure:
    problems = _problems(record)
    figure, axes = plotting.panels(len(problems), columns=2, height=2.0, sharey=True)
    for axis, problem in zip(axes, problems, strict=True):
        rates, curvature = record.arrays[f"structure/{problem}/{arm}"]
        axis.plot(np.maximum(curvature, 1e-9), rates, linestyle="none", marker=".", color=plotting.COLORS[0])
        axis.set(title=problem, xscale="log", yscale="log", xlabel=r"$u_k^T G\, u_k$")
    axes[0].set_ylabel(r"rate $\alpha_k$")
    return figure
