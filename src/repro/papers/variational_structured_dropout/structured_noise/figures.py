"""What structured noise adds, where Variational Dropout goes wrong, what rotations cost."""

import numpy as np
from matplotlib.figure import Figure

from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> dict[str, Figure]:
    return {
        "objective": _objective(record),
        "pathologies": _pathologies(record),
        "rotation": _rotation(record),
        "expansion": _expansion(record),
    }


def _objective(record: Record) -> Figure:
    rows = record.table("curves")
    figure, axes = plotting.panels(2, sharey=True)
    reflections = sorted(rows.reflections.unique())
    for axis, (noise_mean, mine) in zip(axes, rows.groupby("noise_mean"), strict=True):
        for at, (_, some) in enumerate(mine.groupby("reflections")):
            x = at + np.linspace(-0.25, 0.25, len(some))
            penalty = some.deterministic - some.fit
            ratio, error = (some.monte_carlo - some.fit) / penalty, some.standard_error / penalty
            wrong = (some.monte_carlo - some.fit) / (some.unrotated - some.fit)
            axis.plot(x, wrong, linestyle="none", marker=".", color="0.7", zorder=1)
            axis.errorbar(x, ratio, error, fmt="o", color=plotting.COLORS[0], markerfacecolor="white")
        axis.axhline(1, color="0.4", linewidth=0.6)
        axis.set(title=f"mean {noise_mean}", xlabel="reflections $T$", xticks=range(len(reflections)))
        axis.set_xticklabels([str(t) for t in reflections])
    axes[0].set_ylabel(r"(Monte Carlo − fit) / $\langle C, G\rangle$")
    return figure


def _pathologies(record: Record) -> Figure:
    arrays = record.arrays
    figure, (mass, kl, fit) = plotting.panels(3, height=2.1)
    masses, kls = ("mass_log_uniform", "mass_normal"), ("kl_shared", "kl_independent", "kl_hierarchical")
    for axis, names in ((mass, masses), (kl, kls)):
        for color, marker, name in zip(plotting.COLORS, plotting.MARKERS, names, strict=False):
            for line in arrays[name]:
                axis.plot(arrays["epsilon"], line, color=color, marker=marker, markerfacecolor="white", label=None)
            axis.lines[-1].set_label(name.partition("_")[2].replace("_", "-"))
        axis.set(xscale="log", xlabel=r"$\varepsilon$")
        axis.invert_xaxis()
        axis.legend()
    mass.set_ylabel(r"mass of $\varepsilon < |w| < 1$")
    kl.set_ylabel("KL, nats")
    fit.plot(arrays["rate"], arrays["exact"], color=plotting.COLORS[0], label="exact")
    fit.plot(arrays["rate"], arrays["fit"], color=plotting.COLORS[1], linestyle="--", label="sigmoid fit")
    fit.set(xscale="log", yscale="log", xlabel=r"rate $\alpha$", ylabel="KL, nats")
    fit.legend()
    return figure


def _rotation(record: Record) -> Figure:
    figure, (axis,) = plotting.panels(1)
    ratios = record.arrays["rotation_ratio"]
    for color, (seed, rows) in zip(plotting.COLORS, record.cells.reset_index().groupby("seed"), strict=False):
        values = ratios[rows["index"].to_numpy()].ravel()
        axis.hist(values, bins=60, histtype="step", density=True, color=color, label=f"seed {seed}")
    axis.axvline(1, color="0.3", linewidth=0.8)
    axis.set(xlabel=r"$\langle C, G\rangle$ of random rotations / least", ylabel="density")
    axis.legend()
    return figure


def _expansion(record: Record) -> Figure:
    figure, (axis,) = plotting.panels(1)
    for name, color, marker in (("expansion_without", "0.65", "s"), ("expansion_error", plotting.COLORS[0], "o")):
        for line in record.arrays[name]:
            axis.plot(record.arrays["scale"], line, color=color, marker=marker, markerfacecolor="white")
    axis.set(xscale="log", yscale="log", xlabel="scale of the noise's variance", ylabel="left over, nats")
    return figure
