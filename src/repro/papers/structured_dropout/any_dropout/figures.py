"""The two objectives along training and the covariance, a panel a distribution."""

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from repro.papers.structured_dropout.dropblock_objective import figures as objectives
from repro.papers.structured_dropout.linear_figures import SYMBOLS, of, rates, series
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> plotting.Drawings:
    covariances = {"covariances": partial(_covariances, record)} if record.arrays else {}
    return {**objectives.figures(record), **covariances}


def _covariances(record: Record) -> Figure:
    """The relative covariance C̄ of each distribution on units, at the middle rate, scaled to its own maximum: what
    tells them apart."""
    column, values = rates(record)
    middle = [*values][len(values) // 2]
    cells = record.cells[record.cells[column] == middle]
    known = {key: title for key, title in series(record).items() if _name(of(cells, key)) in record.arrays}
    figure, axes = plotting.titled(known, sharey=True, sharex=True)
    for key, axis in axes.items():
        matrix = record.arrays[_name(of(cells, key))]
        image = axis.imshow(matrix / matrix.max(), vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
        plotting.numbered(axis, "unit $j$")
        axis.grid(False)
    plotting.label_rows(axes.values(), "unit $i$")
    label = rf"$\bar C_{{ij}}\, /\, \max \bar C$ at ${SYMBOLS[column]} = {middle:g}$"
    figure.colorbar(image, ax=[*axes.values()], label=label, shrink=0.8, pad=0.01)
    return figure


def _name(cells: pd.DataFrame) -> str:
    return f"relative_covariance_{cells.cell.iloc[0]}"
