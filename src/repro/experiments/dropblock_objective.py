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


grid_size = linear.grid_size


def run(cfg: Config, progress: Progress) -> Result:
    from repro.data.linear import load

    data = load(cfg.data)
    cells, table = linear.grid(cfg)
    curves = linear.stochastic_and_deterministic(data, cells, cfg, progress, cfg.options.monte_carlo_masks, "DropBlock")
    return Result(linear.mark_diverged(table, curves), curves, {}, linear.agreement(curves))


CAPTIONS = {
    "objective": "The objective along training. Markers, the Monte-Carlo mean of the loss under DropBlock on SGD's "
    "iterates, lie on the solid lines, the deterministic objective of the same iterates; dashed, "
    "descending the deterministic objective from the same start.",
    "standard_errors": "Distance between the two in standard errors. Colours scatter within the grey band of ±3; the "
    "grey points are the control, the same measurements against Dropout's objective, and leave it for "
    "r > 1.",
}
"""What to look for in each figure."""


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


CLAIMS = (
    linear.stochastic_claim(
        "stochastic_is_deterministic",
        "The loss under DropBlock is, in expectation over the masks, the data fit plus (1−θ)/θ Σ‖U_iV_iᵀX‖².",
        "theorem on the deterministic objective, E1; paper section 1",
    ),
    linear.DESCENT,
)
