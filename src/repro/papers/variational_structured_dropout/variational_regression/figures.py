"""Every method on every table, beside VD-EB."""

from matplotlib.figure import Figure

from repro.papers.variational_structured_dropout.network_figures import paired
from repro.pipeline.store import Record


def figures(record: Record) -> dict[str, Figure]:
    cells = record.cells
    return {
        "tables": paired(cells, {"log_likelihood": "log-likelihood − VD-EB's, nats", "rmse": "RMSE − VD-EB's"}),
        "elbo": paired(cells[cells.elbo.notna()], {"elbo": "ELBO − VD-EB's, nats an example"}),
    }
