"""Every method beside VD-EB; how right its confidence is; what it does not know; what the weights become."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure

from repro.papers.variational_structured_dropout.network_figures import paired
from repro.pipeline import plotting
from repro.pipeline.store import Record

QUALITY = {"error": "error", "nll": "NLL, nats", "brier": "Brier score", "ece": "ECE", "auroc": "AUROC"}


def figures(record: Record) -> plotting.Drawings:
    cells = record.cells
    dropout = next(arm for arm in cells[cells.chosen].arm if arm.startswith("dropout"))
    most = f"VSD {max(record.config['options']['reflections'])}"
    shown = {"MAP": "MAP", dropout: "MC " + dropout, "VD-EB": "VD-EB", most: most, "ensemble": "ensemble"}
    trained = {arm: name for arm, name in shown.items() if arm != "ensemble"}
    return {
        "quality": partial(paired, cells, {column: f"{name} − VD-EB's" for column, name in QUALITY.items()}),
        "elbo": partial(paired, cells[cells.elbo.notna()], {"elbo": "ELBO − VD-EB's, nats an example"}),
        "reliability": partial(_reliability, record, shown),
        "entropy": partial(_entropy, record, shown),
        "norms": partial(_norms, record, trained),
        "structure": partial(_structure, record, most),
    }


def _problems(record: Record) -> dict[str, str]:
    return {problem: f"{problem}" for problem in dict.fromkeys(record.cells.problem)}


def _key(shown: dict[str, str], **look: str) -> plotting.Key:
    key = plotting.Key()
    key.series(shown.values(), linestyle="-", **look)
    return key


def _reliability(record: Record, shown: dict[str, str]) -> Figure:
    figure, axes = plotting.titled(_problems(record), columns=2, height=2.4, sharey=True)
    for problem, axis in axes.items():
        for color, marker, arm in plotting.styles(shown):
            share, accuracy, confidence = np.moveaxis(record.arrays[f"reliability/{problem}/{arm}"], 1, 0)
            mass = share.sum(0)
            kept = mass > 0.002 * share.sum()
            x, y = ((share * values).sum(0)[kept] / mass[kept] for values in (confidence, accuracy))
            axis.plot(x, y, marker=marker, color=color, markerfacecolor="white")
        axis.plot([0, 1], [0, 1], color="0.4", linewidth=0.8)
        axis.set_xlabel("confidence")
    plotting.label_rows(axes.values(), "accuracy")
    key = _key(shown, markerfacecolor="white")
    key.add("confidence is right", color="0.4", linewidth=0.8)
    key.below(figure)
    return figure


def _entropy(record: Record, shown: dict[str, str]) -> Figure:
    figure, axes = plotting.titled(_problems(record), columns=2, height=2.2, sharey=True)
    looks: dict[str, plotting.Value] = {"known": "-"}
    for problem, axis in axes.items():
        for color, _, arm in plotting.styles(shown):
            start = f"entropy/{problem}/{arm}/"
            for name in sorted(name for name in record.arrays if name.startswith(start)):
                kind, values = name.removeprefix(start), record.arrays[name]
                style = looks.setdefault(kind, ("--", ":", "-.", plotting.DASHED)[(len(looks) - 1) % 4])
                axis.plot(np.linspace(0, 1, len(values)), values, color=color, linestyle=style)
        axis.set_xlabel("entropy / log(classes)")
    plotting.label_rows(axes.values(), "share of images")
    key = _key(shown, marker="")
    for kind, style in looks.items():
        key.add(kind, linestyle=style)
    key.below(figure)
    return figure


def _norms(record: Record, shown: dict[str, str]) -> Figure:
    curves = plotting.surviving(record.table("curves"))
    curves = curves[curves.problem == curves.problem.iloc[0]] if len(curves) else curves
    count = len(curves.filter(regex=r"^spectral_norm_\d+$").columns)
    layers = {layer: f"layer {layer}" for layer in range(1, count + 1)}
    figure, lines = plotting.stacked(layers, rows=2, sharex=True)
    for axes, (column, label) in zip(
        lines, {"spectral_norm": "spectral norm", "stable_rank": "stable rank"}.items(), strict=True
    ):
        for layer, axis in axes.items():
            for color, marker, arm in plotting.styles(shown):
                rows = plotting.over_seeds(curves[curves.arm == arm], "step", f"{column}_{layer}")
                look: plotting.Value = {"color": color, "marker": marker, "markerfacecolor": "white"}
                axis.errorbar(rows.step, rows["mean"], rows["std"], elinewidth=0.8, **look)
            plotting.numbered(axis, "step")
        plotting.label_rows(axes.values(), label)
    _key(shown, markerfacecolor="white").below(figure)
    return figure


def _structure(record: Record, arm: str) -> Figure:
    figure, axes = plotting.titled(_problems(record), columns=2, height=2.0, sharey=True)
    for problem, axis in axes.items():
        rates, curvature = record.arrays[f"structure/{problem}/{arm}"]
        axis.plot(np.maximum(curvature, 1e-9), rates, marker=".", color=plotting.COLORS[0], linestyle="none")
        axis.set(xscale="log", yscale="log", xlabel=r"curvature $u_k^T G\, u_k$")
    plotting.label_rows(axes.values(), r"rate $\alpha_k$")
    return figure
