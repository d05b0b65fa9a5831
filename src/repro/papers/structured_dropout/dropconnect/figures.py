"""The two objectives along training, a panel for each factor and kind of inputs."""

from functools import partial

from repro.papers.structured_dropout.linear_figures import objective_curves, rates, standard_distances
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> plotting.Drawings:
    panels = {
        f"masks on ${scheme[-1]}$, {'whitened' if whitened else 'correlated'} $X$": plotting.surviving(rows)
        for (scheme, whitened), rows in record.table("curves").groupby(["scheme", "whitened"], sort=False)
    }
    column, lines = rates(record)
    return {
        "objective": partial(objective_curves, panels, column, lines, dropout=True),
        "standard_errors": partial(standard_distances, panels, column, lines),
    }
