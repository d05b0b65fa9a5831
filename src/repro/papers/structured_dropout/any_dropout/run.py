"""As for DropBlock, and the covariances that tell the distributions apart."""

from repro.data.linear import load
from repro.papers.expectation import agreement
from repro.papers.structured_dropout import linear
from repro.papers.structured_dropout.any_dropout import Config
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress


def run(config: Config, progress: Progress) -> Result:
    data = load(config.data)
    cells, table = linear.grid(config, data)
    masks = config.options.monte_carlo_masks
    with progress.watched(table.to_dict("records")):
        curves = linear.stochastic_and_deterministic(data, cells, config, progress, masks, "any dropout")
    arrays = {
        f"relative_covariance_{i}": cell.masks.relative_covariance.numpy()
        for i, cell in enumerate(cells)
        if cell.masks.target == "hidden"  # that of all weights is as large as they are many, and diagonal
    }
    return Result(linear.mark_diverged(table, curves), curves, arrays, agreement(curves))
