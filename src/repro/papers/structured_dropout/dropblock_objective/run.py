"""Trains on random masks and on their expectation, and compares along the way."""

from repro.data.linear import load
from repro.papers.expectation import agreement
from repro.papers.structured_dropout import linear
from repro.papers.structured_dropout.dropblock_objective import Config
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress


def run(config: Config, progress: Progress) -> Result:
    data = load(config.data)
    cells, table = linear.grid(config, data)
    masks = config.options.monte_carlo_masks
    with progress.watched(table.to_dict("records")):
        curves = linear.stochastic_and_deterministic(data, cells, config, progress, masks, "both objectives")
    return Result(linear.mark_diverged(table, curves), curves, {}, agreement(curves))
