"""E3: is DropConnect the same regulariser as Dropout?

On U, yes: E‖Y − (1/θ)(Z∘U)VᵀX‖² = ‖Y − UVᵀX‖² + (1−θ)/θ Σ_i ‖u_i‖²‖Xᵀv_i‖². On V only where XXᵀ is a multiple of the
identity: with correlated inputs the masked V has another objective (the negative control).
"""

from math import inf
from typing import TYPE_CHECKING

import pandas as pd
from pydantic import BaseModel, PositiveInt

from repro.claims import Claim
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

    tables: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    first = 0
    for whiten in (True, False):
        data = load(cfg.data.model_copy(update={"whiten": whiten}))
        for scheme in cfg.dropout.scheme:
            only = cfg.model_copy(update={"dropout": cfg.dropout.model_copy(update={"scheme": (scheme,)})})
            cells, table = linear.grid(only, rows={"dropconnect_V": len(data.X)}.get(scheme, len(data.Y)))
            title = f"{scheme}, {'whitened' if whiten else 'correlated'} X"
            rows = linear.stochastic_and_deterministic(data, cells, cfg, progress, cfg.options.monte_carlo_masks, title)
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


def _same_as_dropout(rows: pd.DataFrame) -> pd.Series:
    """Where theory says that the objective is Dropout's."""
    return (rows.scheme == "dropconnect_U") | ((rows.scheme == "dropconnect_V") & rows.whitened)


def _distance_to_dropout(record: Record) -> pd.Series:
    rows = record.table("curves")
    rows = rows[_same_as_dropout(rows)]
    return (rows.deterministic / rows.dropout_objective - 1).abs().groupby(rows.seed).max()


def _correlated_distance(record: Record) -> pd.Series:
    rows = record.table("curves")
    rows = rows[(rows.scheme == "dropconnect_V") & ~rows.whitened & (rows.step > 0)]
    return ((rows.monte_carlo - rows.dropout_objective).abs() / rows.standard_error).groupby(rows.seed).median()


CLAIMS = (
    linear.stochastic_claim(
        "stochastic_is_deterministic",
        "The loss under DropConnect has a deterministic objective as well.",
        "theorem on DropConnect, E3; paper section 2",
    ),
    Claim(
        id="dropconnect_is_dropout",
        statement="DropConnect on the last layer induces exactly Dropout's regulariser; on the first it does for "
        "whitened inputs.",
        source="theorem on DropConnect, E3; paper section 2",
        quantity="largest relative distance between DropConnect's and Dropout's deterministic objectives",
        low=-inf,
        high=1e-10,
        because="an identity: rounding in float64",
        measure=_distance_to_dropout,
        figure="objective",
    ),
    Claim(
        id="correlated_inputs_differ",
        statement="Masks on the first layer with correlated inputs are another regulariser: the control.",
        source="ours; paper section 2",
        quantity="median distance of the Monte-Carlo mean from Dropout's objective, in standard errors",
        low=10.0,
        high=inf,
        because="far beyond sampling error: the same measurement does see a difference where there is one",
        measure=_correlated_distance,
        figure="standard_errors",
    ),
    linear.DESCENT,
)


CAPTIONS = {
    "objective": "Dotted, Dropout's objective, lies on DropConnect's everywhere but in the last panel: masks on V with "
    "correlated inputs.",
    "standard_errors": "Distance between Monte Carlo and DropConnect's own objective in standard errors; grey, against "
    "Dropout's: it leaves the band where theory says that the two differ.",
}
"""What to look for in each figure."""


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
