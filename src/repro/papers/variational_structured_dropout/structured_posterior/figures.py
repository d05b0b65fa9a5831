"""The gap of the ELBO against the number of reflections, and the correlations that were learned."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from repro.pipeline import plotting
from repro.pipeline.store import Record

FLOOR = 1e-10
DESIGNS = ("correlated", "orthogonal")


def figures(record: Record) -> dict[str, Figure]:
    return {"gap": _gap(record)} | ({"covariances": _covariances(record)} if record.arrays else {})


def _gap(record: Record) -> Figure:
    cells = record.cells
    inputs = sorted(cells.inputs.unique())
    figure, axes = plotting.panels(4, columns=4, sharey=True)
    for axis, (noise_mean, design) in zip(
        axes, [(mean, design) for mean in ("centred", "rotated") for design in DESIGNS], strict=True
    ):
        rows = cells[(cells.noise_mean == noise_mean) & (cells.design == design)]
        for at, width in enumerate(inputs):
            color, marker = plotting.COLORS[at % len(plotting.COLORS)], plotting.MARKERS[at % len(plotting.MARKERS)]
            mine = rows[rows.inputs == width]
            axis.axhline(max(FLOOR, float(mine.mean_field_gap.mean())), color=color, linewidth=0.7)
            for _, line in mine.groupby("seed"):
                axis.plot(
                    line.reflections, np.maximum(line.gap, FLOOR), linestyle=":", marker=marker, color=color,
                    markerfacecolor="white",
                )  # fmt: skip
        axis.set(title=f"{noise_mean}, {design}", yscale="log", xlabel="reflections $T$")
        axis.set_xscale("symlog", linthresh=2)
        axis.set_xticks([0, 1, 2, *(t for t in (4, 8, 16, 32) if t < max(inputs))])
        axis.xaxis.set_major_formatter("{x:g}")
    axes[0].set_ylabel("gap of the ELBO, nats")
    styles = [
        Line2D([], [], color=c, marker=m)
        for c, m, _ in zip(
            _cycle(plotting.COLORS, len(inputs)), _cycle(plotting.MARKERS, len(inputs)), inputs, strict=True
        )
    ]
    plotting.legend_below(figure, styles, [f"$K = {width}$" for width in inputs])
    return figure


def _cycle(items: list[str], count: int) -> list[str]:
    return [items[i % len(items)] for i in range(count)]


def _covariances(record: Record) -> Figure:
    learned = {int(name.removeprefix("covariance_")): C for name, C in record.arrays.items() if name[:4] == "cova"}
    panels = {"exact": record.arrays["exact_covariance"]} | {f"$T = {t}$": learned[t] for t in sorted(learned)}
    figure, axes = plotting.panels(len(panels), columns=5, sharex=True, sharey=True)
    for axis, (label, C) in zip(axes, panels.items(), strict=True):
        scale = np.sqrt(np.diag(C))
        image = axis.imshow(C / np.outer(scale, scale), vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
        axis.set(title=label, xlabel="weight $j$")
        axis.grid(False)
    axes[0].set_ylabel("weight $i$")
    figure.colorbar(image, ax=axes, label="correlation", shrink=0.8, pad=0.01)
    return figure
