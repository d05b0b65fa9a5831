"""Trains with masks on U and on V, with whitened and with correlated inputs."""

import pandas as pd

from repro.data import linear as linear_data
from repro.papers.expectation import agreement
from repro.papers.structured_dropout import linear
from repro.papers.structured_dropout.dropconnect import Config, same_as_dropout
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress


def run(config: Config, progress: Progress) -> Result:
    data = [linear_data.load(config.data.model_copy(update={"whiten": whiten})) for whiten in (True, False)]
    (cells, one), (_, other) = (linear.grid(config, each) for each in data)
    table = pd.concat([one.assign(whitened=True), other.assign(whitened=False)], ignore_index=True)
    table["cell"] = table.index
    curves: list[pd.DataFrame] = []
    for first, title, each in zip((0, len(cells)), ("whitened X", "correlated X"), data, strict=True):
        masks = config.options.monte_carlo_masks
        with progress.watched(table.to_dict("records"), first):
            rows = linear.stochastic_and_deterministic(each, cells, config, progress, masks, title)
        curves.append(rows.assign(cell=rows.cell + first))
    all_curves = pd.concat(curves, ignore_index=True)
    table = linear.mark_diverged(table, all_curves)
    return Result(table, all_curves, {}, _headline(all_curves.merge(table, on="cell")))


def _headline(rows: pd.DataFrame) -> dict[str, float]:
    """The agreement with each scheme's own objective, and how far that is from Dropout's."""
    same = same_as_dropout(rows)
    distance = (rows.deterministic - rows.dropout_objective).abs()
    trained = rows.step > 0
    return agreement(rows) | {
        "largest relative distance to Dropout where theory says 0": float((distance / rows.deterministic)[same].max()),
        "median distance to Dropout in standard errors, V masked, correlated X": float(
            (distance / rows.standard_error)[~same & trained].median()
        ),
    }
