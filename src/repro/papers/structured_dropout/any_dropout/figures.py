"""The two objectives along training and the covariance, a panel a distribution."""

from matplotlib.figure import Figure

from repro.papers.structured_dropout.linear_figures import (
    objective_curves,
    of,
    panels_of,
    rates,
    series,
    standard_distances,
)
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> dict[str, Figure]:
    panels, (column, lines) = panels_of(record), rates(record)
    found = {
        "objective": objective_curves(panels, column, lines),
        "standard_errors": standard_distances(panels, column, lines),
    }
    return found | ({"covariances": _covariances(record)} if record.arrays else {})


def _covariances(record: Record) -> Figure:
    """The relative covariance C̄ of each distribution on units, scaled to its own maximum: what tells them apart."""
    first = {label: of(record.cells, key).cell.iloc[0] for key, label in series(record).items()}
    matrices = {
        label: record.arrays[name]
        for label, cell in first.items()
        if (name := f"relative_covariance_{cell}") in record.arrays
    }
    figure, axes = plotting.panels(len(matrices), sharey=True, sharex=True)
    for axis, (label, matrix) in zip(axes, matrices.items(), strict=True):
        image = axis.imshow(matrix / matrix.max(), vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
        axis.set(title=label, xlabel="unit $j$")
        axis.grid(False)
    axes[0].set_ylabel("unit $i$")
    figure.colorbar(image, ax=axes, label=r"$\bar C_{ij}\, /\, \max \bar C$", shrink=0.8, pad=0.01)
    return figure
