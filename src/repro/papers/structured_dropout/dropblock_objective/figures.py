"""The two objectives along training, a panel a block size."""

from matplotlib.figure import Figure

from repro.papers.structured_dropout.linear_figures import objective_curves, panels_of, rates, standard_distances
from repro.pipeline.store import Record


def figures(record: Record) -> dict[str, Figure]:
    panels, (column, lines) = panels_of(record), rates(record)
    return {
        "objective": objective_curves(panels, column, lines),
        "standard_errors": standard_distances(panels, column, lines),
    }
