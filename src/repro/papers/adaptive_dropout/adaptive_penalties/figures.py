"""The penalties of strategies: the paper's figure, integrals on closed forms, curvature, and dropout on Tikhonov."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure

from repro.papers.adaptive_dropout.adaptive_penalties import FALLING
from repro.pipeline import plotting
from repro.pipeline.plotting import COLORS, DASHED, MEASURED
from repro.pipeline.store import Record

# Of the paper's figure: colour, line, and what each is called; partners have one colour.
PENALTIES = {
    "VarDrop": (0, "-", "VarDrop"),
    "LogSum": (0, DASHED, "2 LogSum(2)"),
    "HardConcrete": (1, "-", "HardConcrete"),
    "MCP": (1, DASHED, r"$\sqrt{2}$ MCP($\frac{1}{2}$, $\sqrt{2}$)"),
    "Standout": (2, "-", "Standout"),
    "hard threshold": (3, ":", "hard threshold 16"),
}
CURVED = ("L1", "LogSum", "Lp, p = 3/2", "Standout", "constant", "rising, then falling", FALLING)


def figures(record: Record) -> plotting.Drawings:
    return {
        "penalties": partial(_penalties, record),
        "duality": partial(_duality, record),
        "curvature": partial(_curvature, record),
        "tikhonov": partial(_tikhonov, record),
    }


def _penalties(record: Record) -> Figure:
    arrays, key = record.arrays, plotting.Key()
    figure, (left, right) = plotting.panels(2, height=2.2)
    rows = dict(zip(arrays["shown"].tolist(), zip(arrays["scalar"], arrays["vector"], strict=True), strict=True))
    for name, (color, line, title) in PENALTIES.items():
        scalar, vector = rows[name]
        look: dict[str, plotting.Value] = {"color": COLORS[color], "linestyle": line}
        left.plot(arrays["scalar_w"], scalar - scalar[0], **look)
        kept = np.isfinite(vector)
        right.plot(arrays["vector_k"][kept], vector[kept], **look)
        if not kept.all():
            right.axvline(arrays["vector_k"][kept][-1], **look)
        key.add(title, **look)
    left.set(xlabel="weight $|w|$", ylabel=r"$\Omega(w) - \Omega(0.01)$", xscale="log")
    plotting.numbered(right, "equal entries $k$ of a vector $x$ of norm 1")
    right.set(ylabel=r"$\Omega(x) - \Omega(0)$")
    key.below(figure)
    return figure


def _duality(record: Record) -> Figure:
    arrays, cells = record.arrays, record.cells
    names = cells.strategy[cells.integral_error.notna()].tolist()
    figure, axes = plotting.titled({i: name for i, name in enumerate(names)}, height=1.3)
    every = max(1, len(arrays["w"]) // 12)
    for i, axis in axes.items():
        axis.plot(arrays["w"], arrays["closed_forms"][i], color=COLORS[0])
        axis.plot(arrays["w"][::every], arrays["integrals"][i][::every], "o", color=COLORS[1], **MEASURED)
        axis.set(xscale="log", xlabel="weight $|w|$")
    plotting.label_rows(axes.values(), r"$\Omega(w) - \Omega(0)$")
    key = plotting.Key()
    key.add("closed form", color=COLORS[0])
    key.add("integral of the strategy", color=COLORS[1], marker="o", **MEASURED)
    key.below(figure)
    return figure


def _curvature(record: Record) -> Figure:
    arrays, key = record.arrays, plotting.Key()
    names = record.cells.strategy.dropna().tolist()
    figure, (axis,) = plotting.panels(1, height=2.2)
    for color, name in zip(COLORS, CURVED, strict=True):
        values = arrays["integrals"][names.index(name)]
        look: dict[str, plotting.Value] = {"color": color, "linestyle": DASHED if "falling" in name else "-"}
        axis.plot(arrays["w"] ** 2, values / values[-1], **look)
        key.add(name, **look)
    axis.set(xlabel="squared weight $w^2$", ylabel=r"$\Omega(w)\ /\ \Omega(5)$")
    key.below(figure)
    return figure


def _tikhonov(record: Record) -> Figure:
    curves, key = record.table("curves"), plotting.Key()
    figure, (axis,) = plotting.panels(1, height=2.2)
    exact, wrong = curves.deterministic - curves.fit, curves.wrong - curves.fit
    ends = np.array([exact.min(), exact.max()])
    axis.plot(ends, ends, color="0.3")
    key.add("Tikhonov term")
    axis.plot(exact, wrong, ".", color="0.7")
    key.add("variance $1 - \\alpha$: the control", marker=".", linestyle="none", color="0.7")
    noises = sorted(curves.noise.unique())
    for color, marker, noise in plotting.styles(noises):
        rows = curves[curves.noise == noise]
        x, y = rows.deterministic - rows.fit, rows.monte_carlo - rows.fit
        size = 5 if noise == noises[0] else 2.5
        axis.errorbar(
            x, y, rows.standard_error, color=color, marker=marker, markersize=size, elinewidth=0.8, **MEASURED
        )
    key.series([f"{noise.capitalize()} masks" for noise in noises], **MEASURED)
    axis.set(xscale="log", yscale="log", xlabel=r"$\frac{1}{2}\sum_j w_j^2 (1-\alpha_j)/\alpha_j$",
             ylabel="mean loss under masks $-$ fit")  # fmt: skip
    key.below(figure)
    return figure
