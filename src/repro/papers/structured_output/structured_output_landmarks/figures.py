"""Errors of points, and predicted shapes on their pictures."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure

from repro.papers.structured_output import figures as shared
from repro.papers.structured_output.settings import SHOWN, TITLES
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> plotting.Drawings:
    return {**shared.common(record, "NRMSE"), "shapes": partial(_shapes, record)}


def _shapes(record: Record) -> Figure:
    """Pictures side by side in one panel, a panel an arm."""
    arrays = record.arrays
    pictures, true, errors = (arrays[f"shown_{name}"].astype(float) for name in ("inputs", "true", "errors"))
    count, height, width = pictures.shape
    figure, axes = plotting.panels(len(SHOWN), columns=1, height=1.0)
    places = np.arange(count) * width * 1.06
    for axis, arm in zip(axes, SHOWN, strict=True):
        color, marker = shared.LOOKS[arm]
        for place, picture, points, found in zip(places, pictures, true, arrays[f"shown_{arm}"], strict=True):
            axis.imshow(picture, cmap="gray_r", vmin=0, vmax=1, extent=(place, place + width, height, 0))
            closed = np.append(points, points[:2]).reshape(-1, 2) + 0.5
            axis.plot(closed[:, 0] * width + place, closed[:, 1] * height, color="0.35", linewidth=1.0)
            x, y = (found.astype(float).reshape(-1, 2) + 0.5).T
            axis.plot(x * width + place, y * height, color=color, marker=marker, markersize=1.6, linestyle="none")
        axis.set(xlim=(places[0], places[-1] + width), ylim=(height, 0), yticks=[], ylabel=TITLES[arm])
        axis.set_xticks(places + width / 2, [f"{error:.3f}" for error in errors] if axis is axes[-1] else [""] * count)
        axis.grid(False)
        axis.set_frame_on(False)
        axis.tick_params(length=0)
    axes[-1].set_xlabel("NRMSE of +in+out: best, as the median, worst")
    key = plotting.Key()
    key.add("truth", color="0.35")
    for arm in SHOWN:
        key.add(TITLES[arm], color=shared.LOOKS[arm][0], marker=shared.LOOKS[arm][1], linestyle="none")
    key.below(figure)
    return figure
