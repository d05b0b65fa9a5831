"""The penalties of strategies: the paper's figure, integrals on closed forms, curvature, and dropout on Tikhonov."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from repro.pipeline import plotting
from repro.pipeline.store import Record

PARTNER = {"VarDrop": "LogSum", "HardConcrete": "MCP"}  # drawn in one colour, its partner dashed


def figures(record: Record) -> dict[str, Figure]:
    return {
        "penalties": _penalties(record),
        "duality": _duality(record),
        "curvature": _curvature(record),
        "tikhonov": _tikhonov(record),
    }


def _penalties(record: Record) -> Figure:
    arrays = record.arrays
    names = arrays["shown"].tolist()
    factor = {"LogSum": "2 LogSum(2)", "MCP": r"$\sqrt{2}$ MCP(½, $\sqrt{2}$)", "hard threshold": "hard threshold 16"}
    colors = {"VarDrop": 0, "LogSum": 0, "HardConcrete": 1, "MCP": 1, "Standout": 2, "hard threshold": 3}
    figure, (left, right) = plotting.panels(2, height=2.2)
    handles = []
    for name, scalar, vector in zip(names, arrays["scalar"], arrays["vector"], strict=True):
        color, line = plotting.COLORS[colors[name]], "--" if name in PARTNER.values() else "-"
        left.plot(arrays["scalar_w"], scalar - scalar[0], color=color, linestyle=line)
        kept = np.isfinite(vector)
        right.plot(arrays["vector_k"][kept], vector[kept], color=color, linestyle=line)
        if not kept.all():
            right.axvline(arrays["vector_k"][kept][-1], color=color, linestyle=":", linewidth=0.8)
        handles.append(Line2D([], [], color=color, dashes=(4, 2) if line == "--" else (None, None)))
    left.set(xlabel="$|w|$", ylabel=r"$\Omega(w) - \Omega(0.01)$", xscale="log")
    right.set(xlabel="equal entries $k$ of norm 1", ylabel=r"$\Omega(x)$")
    plotting.legend_below(figure, handles, [factor.get(name, name) for name in names])
    return figure


def _duality(record: Record) -> Figure:
    arrays, cells = record.arrays, record.cells
    names = cells.strategy[cells.integral_error.notna()].tolist()
    figure, axes = plotting.panels(len(names), columns=4, height=1.3, sharex=True)
    every = max(1, len(arrays["w"]) // 12)
    for axis, name, integral, exact in zip(axes, names, arrays["integrals"], arrays["closed_forms"], strict=False):
        axis.plot(arrays["w"], exact, color=plotting.COLORS[0])
        axis.plot(arrays["w"][::every], integral[::every], "o", color=plotting.COLORS[1], markerfacecolor="white")
        axis.set(title=name, xscale="log")
    for axis in axes[::4]:
        axis.set_ylabel(r"$\Omega(w) - \Omega(0)$")
    for axis in axes[-4:]:
        axis.set_xlabel("$|w|$")
    handles = [
        Line2D([], [], color=plotting.COLORS[0]),
        Line2D([], [], color=plotting.COLORS[1], marker="o", linestyle="none", markerfacecolor="white"),
    ]
    plotting.legend_below(figure, handles, ["closed form", "integral of the strategy"])
    return figure


def _curvature(record: Record) -> Figure:
    arrays = record.arrays
    names = record.cells.strategy.dropna().tolist()
    chosen = ["L1", "LogSum", "Lp, p = 3/2", "Standout", "constant", "rising, then falling", "falling"]
    figure, (axis,) = plotting.panels(1, height=2.2)
    for color, name in zip(plotting.COLORS, chosen, strict=True):
        values = arrays["integrals"][names.index(name)]
        dashed = "--" if name in {"falling", "rising, then falling"} else "-"
        axis.plot(arrays["w"] ** 2, values / values[-1], color=color, linestyle=dashed, label=name)
    axis.set(xlabel="$w^2$", ylabel=r"$\Omega(w)\ /\ \Omega(5)$")
    axis.legend()
    return figure


def _tikhonov(record: Record) -> Figure:
    curves = record.table("curves")
    figure, (axis,) = plotting.panels(1, height=2.2)
    exact, wrong = curves.deterministic - curves.fit, curves.wrong - curves.fit
    ends = np.array([exact.min(), exact.max()])
    axis.plot(ends, ends, color="0.3", label="Tikhonov")
    axis.plot(exact, wrong, ".", color="0.7", label="control: variance $1 - \\alpha$")
    looks = zip(plotting.COLORS, plotting.MARKERS, sorted(curves.noise.unique()), strict=False)
    for color, marker, noise in looks:
        rows = curves[curves.noise == noise]
        x, y = rows.deterministic - rows.fit, rows.monte_carlo - rows.fit
        axis.errorbar(x, y, 3 * rows.standard_error, linestyle="none", color=color, marker=marker, label=noise,
                      markerfacecolor="white", linewidth=0.6)  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel=r"$\frac{1}{2}\sum_j w_j^2 (1-\alpha_j)/\alpha_j$",
             ylabel="mean loss under masks $-$ fit")  # fmt: skip
    axis.legend()
    return figure
