"""The gap of the ELBO against the number of reflections, and the correlations that were learned."""

from functools import partial
from itertools import product

import numpy as np
from matplotlib.figure import Figure

from repro.pipeline import plotting
from repro.pipeline.store import Record

FLOOR = 1e-10


def figures(record: Record) -> plotting.Drawings:
    found = {"gap": partial(_gap, record)}
    return found | ({"covariances": partial(_covariances, record)} if record.arrays else {})


def _gap(record: Record) -> Figure:
    cells = record.cells
    kinds = product(dict.fromkeys(cells.noise_mean), dict.fromkeys(cells.design))
    figure, axes = plotting.titled({kind: f"{kind[0]}, {kind[1]}" for kind in kinds}, sharey=True)
    widths = plotting.some({f"$K = {width}$": width for width in sorted(cells.inputs.unique())}, figure)
    for (noise_mean, design), axis in axes.items():
        rows = cells[(cells.noise_mean == noise_mean) & (cells.design == design)]
        for color, marker, name in plotting.styles(widths):
            mine = rows[rows.inputs == widths[name]]
            for _, line in mine.groupby("seed"):
                look: plotting.Value = {"color": color, "linewidth": 0.8}
                axis.axhline(max(FLOOR, float(line.mean_field_gap.iloc[0])), **look)
                line = line.sort_values("reflections")
                height = np.maximum(line.gap, FLOOR)
                axis.plot(line.reflections, height, **look | {"linestyle": ":"})
                axis.plot(line.reflections, height, color=color, marker=marker, **plotting.MEASURED)
        axis.set(yscale="log", xlabel="reflections $T$")
        axis.set_xscale("symlog", linthresh=2)
        plotting.mark(axis.xaxis, rows.reflections.unique())
    plotting.label_rows(axes.values(), "gap of the ELBO, nats")
    key = plotting.Key()
    key.series(widths, markerfacecolor="white")
    key.add("mean field, in theory", linewidth=0.8)
    key.below(figure)
    return figure


def _covariances(record: Record) -> Figure:
    counts = sorted(int(name.removeprefix("covariance_")) for name in record.arrays if name.startswith("covariance_"))
    counts = [t for t in counts if t] or counts  # without reflections there are no correlations to see
    titles = {"exact_covariance": "exact"} | {f"covariance_{t}": f"$T = {t}$" for t in counts}
    figure, axes = plotting.titled(titles, height=1.6, sharex=True, sharey=True)
    for name, axis in axes.items():
        C = record.arrays[name]
        scale = np.sqrt(np.diag(C))
        image = axis.imshow(C / np.outer(scale, scale), vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
        plotting.numbered(axis, "weight $j$")
        axis.grid(False)
    plotting.label_rows(axes.values(), "weight $i$")
    figure.colorbar(image, ax=[*axes.values()], label="correlation", shrink=0.8, pad=0.01)
    return figure
