"""Every method on every table, beside VD-EB."""

from functools import partial

from repro.papers.variational_structured_dropout.network_figures import paired
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> plotting.Drawings:
    cells = record.cells
    return {
        "tables": partial(
            paired, cells, {"log_likelihood": "log-likelihood − VD-EB's, nats", "rmse": "RMSE − VD-EB's"}
        ),
        "elbo": partial(paired, cells[cells.elbo.notna()], {"elbo": "ELBO − VD-EB's, nats an example"}),
    }
