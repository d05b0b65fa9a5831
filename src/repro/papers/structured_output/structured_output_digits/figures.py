"""Errors of pixels, and completed digits."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure

from repro.papers.structured_output import figures as shared
from repro.papers.structured_output.settings import SHOWN, TITLES
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> plotting.Drawings:
    return {**shared.common(record, "RMSE of pixels"), "completed": partial(_completed, record)}


def _completed(record: Record) -> Figure:
    """A picture a column: the truth and each arm's prediction below the input, in one panel."""
    arrays = record.arrays
    inputs, errors = arrays["shown_inputs"].astype(float), arrays["shown_errors"]
    count, height, width = inputs.shape
    rows = {"truth": arrays["shown_true"], **{TITLES[arm]: arrays[f"shown_{arm}"] for arm in SHOWN}}
    lower = -(-rows["truth"].shape[1] // width)  # rows of an output as wide as its input
    tall, wide = (height + lower) * 1.06, width * 1.06
    figure, (axis,) = plotting.panels(1, height=1.6)
    figure.set_size_inches(plotting.PAGE, 0.92 * plotting.PAGE * tall * len(rows) / (wide * count) + 0.4)
    for row, outputs in enumerate(rows.values()):
        for column in range(count):
            below = outputs[column].astype(float).reshape(lower, width)
            picture = np.vstack([inputs[column], below]).clip(0, 1)
            place = (column * wide, column * wide + width, row * tall + height + lower, row * tall)
            axis.imshow(picture, cmap="gray_r", vmin=0, vmax=1, extent=place)
    for row in range(len(rows)):
        axis.axhline(row * tall + height, color=plotting.COLORS[1], linewidth=0.6)
    axis.set(xlim=(0, count * wide), ylim=(len(rows) * tall, 0))
    axis.set_xticks(np.arange(count) * wide + width / 2, [f"{error:.3f}" for error in errors])
    axis.set_yticks(np.arange(len(rows)) * tall + (height + lower) / 2, [*rows])
    axis.set_xlabel("RMSE of +in+out: best, as the median, worst")
    axis.grid(False)
    axis.set_frame_on(False)
    axis.tick_params(length=0)
    return figure
