"""E3: is DropConnect the same regulariser as Dropout?

On U, yes: E‖Y − (1/θ)(Z∘U)VᵀX‖² = ‖Y − UVᵀX‖² + (1−θ)/θ Σ_i ‖u_i‖²‖Xᵀv_i‖². On V only where XXᵀ is a multiple of the
identity: with correlated inputs the masked V has another objective (the negative control).
"""

from typing import TYPE_CHECKING

import pandas as pd
from pydantic import BaseModel, PositiveInt

from repro.config import LinearConfig as Config
from repro.experiments import linear
from repro.progress import Progress
from repro.records import Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Options(BaseModel, extra="forbid", frozen=True):
    """`monte_carlo_masks`: masks that each measurement of the stochastic objective averages over."""

    monte_carlo_masks: PositiveInt = 512


def run(cfg: Config, progress: Progress) -> Result:
    from repro.data.linear import load
    from repro.training.noise import Problem

    tables: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    first = 0
    for whiten in (True, False):
        data = load(cfg.data.model_copy(update={"whiten": whiten}))
        problem = Problem.from_data(*data)
        for scheme in cfg.dropout.scheme:
            only = cfg.model_copy(update={"dropout": cfg.dropout.model_copy(update={"scheme": (scheme,)})})
            cells, table = linear.grid(only, rows={"dropconnect_V": len(data.X)}.get(scheme, len(data.Y)))
            title = f"{scheme}, {'whitened' if whiten else 'correlated'} X"
            rows = linear.stochastic_and_deterministic(
                problem, cells, cfg, progress, cfg.options.monte_carlo_masks, title
            )
            tables.append(table.assign(cell=table.cell + first, whitened=whiten))
            curves.append(rows.assign(cell=rows.cell + first))
            first += len(table)
    cells_table, all_curves = pd.concat(tables, ignore_index=True), pd.concat(curves, ignore_index=True)
    cells_table = linear.mark_diverged(cells_table, all_curves)
    return Result(cells_table, all_curves, {}, _headline(all_curves.merge(cells_table, on="cell")))


def _headline(rows: pd.DataFrame) -> dict[str, float]:
    """The agreement with each scheme's own objective, and how far that is from Dropout's."""
    same = (rows.scheme != "dropconnect_V") | rows.whitened
    distance = (rows.deterministic - rows.dropout_objective).abs()
    trained = rows.step > 0
    return linear.agreement(rows) | {
        "largest relative distance to Dropout where theory says 0": float((distance / rows.deterministic)[same].max()),
        "median distance to Dropout in standard errors, V masked, correlated X": float(
            (distance / rows.standard_error)[~same & trained].median()
        ),
    }


def figures(record: Record) -> dict[str, "Figure"]:
    from repro import plotting
    from repro.experiments.linear_figures import objective_curves, standard_distances

    curves = record.table("curves")
    panels = {
        f"masks on ${scheme[-1]}$, {'whitened' if whitened else 'correlated'} $X$": plotting.surviving(rows)
        for (scheme, whitened), rows in curves.groupby(["scheme", "whitened"], sort=False)
        if scheme != "bernoulli"
    }
    lines = {theta: rf"$\theta = {theta:g}$" for theta in sorted(curves.retain.unique())}
    return {
        "objective": objective_curves(panels, "retain", lines, dropout=True),
        "standard_errors": standard_distances(panels, "retain", lines),
    }
