"""The two objectives along training, a panel a block size."""

from functools import partial

from repro.papers.structured_dropout.linear_figures import objective_curves, panels_of, rates, standard_distances
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> plotting.Drawings:
    panels, (column, lines) = panels_of(record), rates(record)
    return {
        "objective": partial(objective_curves, panels, column, lines),
        "standard_errors": partial(standard_distances, panels, column, lines),
    }
