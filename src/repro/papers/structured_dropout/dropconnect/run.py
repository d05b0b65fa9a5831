"""Trains with masks on U and on V, with whitened and with correlated inputs."""

import pandas as pd

from repro.data import linear as linear_data
from repro.papers.expectation import agreement
from repro.papers.structured_dropout import linear
from repro.papers.structured_dropout.dropconnect import Config, same_as_dropout
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress


def run(config: Config, progress: Progress) -> Result:
    tables: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    for whiten in (True, False):
        data = linear_data.load(config.data.model_copy(update={"whiten": whiten}))
        cells, table = linear.grid(config, data)
        title = f"{'whitened' if whiten else 'correlated'} X"
        masks = config.options.monte_carlo_masks
        rows = linear.stochastic_and_deterministic(data, cells, config, progress, masks, title)
        first = len(cells) * len(tables)
        tables.append(table.assign(cell=table.cell + first, whitened=whiten))
        curves.append(rows.assign(cell=rows.cell + first))
    table, all_curves = pd.concat(tables, ignore_index=True), pd.concat(curves, ignore_index=True)
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
