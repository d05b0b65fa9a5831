"""E1: is SGD with DropBlock stochastic gradient descent on the deterministic objective?

E‖Y − (1/θ) U diag(z) VᵀX‖² = ‖Y − UVᵀX‖² + (1−θ)/θ Σ_i ‖U_i V_iᵀX‖², for every U and V: measured on the iterates
of SGD, beside gradient descent on the right-hand side from the same start.
"""

from typing import TYPE_CHECKING

from pydantic import BaseModel, PositiveInt

from repro.config import LinearConfig as Config
from repro.experiments import linear
from repro.progress import Progress
from repro.records import Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Options(BaseModel, extra="forbid", frozen=True):
    """`monte_carlo_masks`: masks that each measurement of the stochastic objective averages over."""

    monte_carlo_masks: PositiveInt = 16384


def run(cfg: Config, progress: Progress) -> Result:
    from repro.data.linear import load
    from repro.training.noise import Problem

    problem = Problem.from_data(*load(cfg.data))
    cells, table = linear.grid(cfg)
    curves = linear.stochastic_and_deterministic(
        problem, cells, cfg, progress, cfg.options.monte_carlo_masks, "DropBlock"
    )
    return Result(linear.mark_diverged(table, curves), curves, {}, linear.agreement(curves))


def figures(record: Record) -> dict[str, "Figure"]:
    from repro import plotting
    from repro.experiments.linear_figures import objective_curves, standard_distances

    curves = record.table("curves")
    panels = {f"$r = {r}$": plotting.surviving(rows) for r, rows in curves.groupby("block_size")}
    lines = {theta: rf"$\theta = {theta:g}$" for theta in sorted(curves.retain.unique())}
    return {
        "objective": objective_curves(panels, "retain", lines),
        "standard_errors": standard_distances(panels, "retain", lines),
    }
