"""What structured noise adds, where Variational Dropout goes wrong, what rotations cost: theory as lines."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.pipeline import plotting
from repro.pipeline.store import Record

# What grows with log(1/ε), at which slope, and what does not.
MASSES = {"mass_log_uniform": "prior $1/|w|$", "mass_normal": "normal prior"}
KLS = {"kl_shared": "shared columns", "kl_independent": "independent columns", "kl_hierarchical": "a variance each"}


def figures(record: Record) -> plotting.Drawings:
    makers = {"objective": _objective, "pathologies": _pathologies, "rotation": _rotation, "expansion": _expansion}
    return {name: partial(make, record) for name, make in makers.items()}


def _objective(record: Record) -> Figure:
    rows = record.table("curves")
    means = {name: f"mean {name}" for name in dict.fromkeys(rows.noise_mean)}
    figure, axes = plotting.titled(means, sharey=True)
    reflections = sorted(rows.reflections.unique())
    for noise_mean, axis in axes.items():
        mine = rows[rows.noise_mean == noise_mean]
        for at, count in enumerate(reflections):
            some = mine[mine.reflections == count]
            x = at + np.linspace(-0.25, 0.25, len(some))
            penalty, added = some.deterministic - some.fit, some.monte_carlo - some.fit
            axis.plot(x, added / (some.unrotated - some.fit), linestyle="none", marker=".", color="0.7", zorder=1)
            axis.errorbar(
                x, added / penalty, some.standard_error / penalty, marker="o", color=plotting.COLORS[0],
                **plotting.MEASURED,
            )  # fmt: skip
        axis.axhline(1, color=plotting.COLORS[0], zorder=1)
        axis.set_xticks(range(len(reflections)), [f"{count}" for count in reflections])
        axis.set_xlabel("reflections $T$")
    plotting.label_rows(axes.values(), "added by the noise / theory")
    key = plotting.Key()
    key.add(r"theory, $\langle C, G\rangle$", color=plotting.COLORS[0])
    key.add("Monte Carlo", color=plotting.COLORS[0], marker="o", **plotting.MEASURED)
    key.add("Monte Carlo over the same rates without rotation", color="0.7", marker=".", linestyle="none")
    key.below(figure)
    return figure


def _pathologies(record: Record) -> Figure:
    arrays = record.arrays
    figure, (mass, kl, fit) = plotting.panels(3, height=1.9)
    slopes = {"mass_log_uniform": 2 * arrays["likelihood_at_0"], "kl_shared": arrays["missing_dimensions"]}
    names = MASSES | KLS
    for (color, marker, name), axis in zip(plotting.styles(names), [mass] * len(MASSES) + [kl] * len(KLS), strict=True):
        growth = slopes.get(name, np.zeros(len(arrays[name])))
        for values, slope in zip(arrays[name], growth, strict=True):
            _growing(axis, arrays["epsilon"], values, float(slope), color, marker)
    for axis, label in ((mass, r"mass of $\varepsilon < |w| < 1$"), (kl, "KL, nats")):
        axis.set(xscale="log", xlabel=r"$\varepsilon$", ylabel=label)
        axis.invert_xaxis()
    fit.plot(arrays["rate"], arrays["exact"], color="black")
    fit.plot(arrays["rate"][::8], arrays["fit"][::8], color="black", marker="X", **plotting.MEASURED)
    fit.set(xscale="log", yscale="log", xlabel=r"rate $\alpha$", ylabel="KL to $1/|w|$, nats")
    key = plotting.Key()
    key.series(names.values(), markerfacecolor="white")
    key.add("theory", color="0.3")
    key.add("sigmoid fit", color="black", marker="X", **plotting.MEASURED)
    key.below(figure)
    return figure


def _growing(axis: Axes, epsilon: np.ndarray, values: np.ndarray, slope: float, color: str, marker: str) -> None:
    """Values as markers on the line that theory says they end on."""
    axis.plot(epsilon, values[-1] + slope * np.log(epsilon[-1] / epsilon), color=color, linewidth=0.8)
    axis.plot(epsilon, values, color=color, marker=marker, **plotting.MEASURED)


def _rotation(record: Record) -> Figure:
    figure, (axis,) = plotting.panels(1)
    ratios = record.arrays["rotation_ratio"].ravel()
    axis.hist(ratios, bins=80, density=True, color=plotting.COLORS[4], alpha=0.6)
    axis.axvline(1, color=plotting.COLORS[0])
    found = record.cells.rotation_searched
    axis.plot(found, np.zeros(len(found)), marker="o", color=plotting.COLORS[1], clip_on=False, **plotting.MEASURED)
    axis.set(xlabel=r"$\langle C, G\rangle\ /\ \sum_k \alpha_k^\downarrow \lambda_k^\uparrow$", ylabel="density")
    axis.set_xlim(left=0)
    key = plotting.Key()
    key.add("least, in theory", color=plotting.COLORS[0])
    key.add("descent", color=plotting.COLORS[1], marker="o", **plotting.MEASURED)
    key.add("random rotations", color=plotting.COLORS[4], marker="s", linestyle="none", alpha=0.6)
    key.below(figure)
    return figure


def _expansion(record: Record) -> Figure:
    figure, (axis,) = plotting.panels(1)
    scale, key = record.arrays["scale"], plotting.Key()
    kinds = {
        "expansion_without": ("0.6", "s", 1, "without the network's curvature"),
        "expansion_error": (plotting.COLORS[0], "o", 2, "to second order"),
    }
    for name, (color, marker, order, label) in kinds.items():
        for values in record.arrays[name]:
            axis.plot(scale, values[-1] * (scale / scale[-1]) ** order, color=color, linewidth=0.8)
            axis.plot(scale, values, color=color, marker=marker, **plotting.MEASURED)
        key.add(label, color=color, marker=marker, **plotting.MEASURED)
        key.add(f"slope {order}", color=color, linewidth=0.8)
    axis.set(xscale="log", yscale="log", xlabel="scale of the noise's variance", ylabel="left over, nats")
    key.below(figure)
    return figure
