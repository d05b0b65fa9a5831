"""E5: does every dropout distribution have its deterministic objective?

E‖Y − U diag(z/μ) VᵀX‖² = ‖Y − UVᵀX‖² + Σ_ij C̄_ij ⟨u_i,u_j⟩⟨Xᵀv_i,Xᵀv_j⟩ for masks of any mean μ and covariance C:
overlapping (original) DropBlock and correlated Gaussian noise beside Dropout and disjoint DropBlock.
"""

from typing import TYPE_CHECKING

from repro.config import LinearConfig as Config
from repro.experiments import linear
from repro.experiments.dropblock_objective import Options
from repro.progress import Progress
from repro.records import Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CAPTIONS", "CLAIMS", "Config", "Options", "figures", "grid_size", "run"]

TITLES = {
    "bernoulli": "Dropout",
    "dropblock": "disjoint DropBlock",
    "overlapping_dropblock": "overlapping DropBlock",
    "gaussian": "correlated Gaussian",
}


grid_size = linear.grid_size


def run(cfg: Config, progress: Progress) -> Result:
    from repro.data.linear import load

    data = load(cfg.data)
    cells, table = linear.grid(cfg)
    curves = linear.stochastic_and_deterministic(
        data, cells, cfg, progress, cfg.options.monte_carlo_masks, "any dropout"
    )
    arrays = {f"relative_covariance_{i}": c.masks.relative_covariance.numpy() for i, c in enumerate(cells)}
    return Result(linear.mark_diverged(table, curves), curves, arrays, linear.agreement(curves))


CAPTIONS = {
    "objective": "As for DropBlock, for four distributions of masks: markers (Monte Carlo) on lines (deterministic).",
    "standard_errors": "Distance between the two in standard errors; grey: against the objective of independent "
    "units, which is right for Dropout alone.",
    "covariances": "The relative covariance of the masks, all that the deterministic objective needs to know of a "
    "distribution.",
}
"""What to look for in each figure."""


def figures(record: Record) -> dict[str, "Figure"]:
    from repro import plotting
    from repro.experiments.linear_figures import objective_curves, standard_distances

    curves = record.table("curves")
    panels = {TITLES[s]: plotting.surviving(rows) for s, rows in curves.groupby("scheme", sort=False)}
    lines = {theta: rf"$\theta = {theta:g}$" for theta in sorted(curves.retain.unique())}
    return {
        "objective": objective_curves(panels, "retain", lines),
        "standard_errors": standard_distances(panels, "retain", lines),
        "covariances": _covariances(record),
    }


def _covariances(record: Record) -> "Figure":
    """The relative covariance C̄ of each scheme, scaled to its own maximum: what tells the schemes apart."""
    from repro import plotting

    first = record.cells.drop_duplicates("scheme")
    figure, axes = plotting.panels(len(first), sharey=True, sharex=True)
    for axis, row in zip(axes, first.itertuples(), strict=True):
        matrix = record.arrays[f"relative_covariance_{row.cell}"]
        image = axis.imshow(matrix / matrix.max(), vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
        axis.set(title=TITLES[row.scheme], xlabel="unit $j$")
        axis.grid(False)
    axes[0].set_ylabel("unit $i$")
    figure.colorbar(image, ax=axes, label=r"$\bar C_{ij}\, /\, \max \bar C$", shrink=0.8, pad=0.01)
    return figure


CLAIMS = (
    linear.stochastic_claim(
        "any_distribution",
        "Masks of any mean μ and covariance C have a deterministic objective: the data fit plus Σ C̄_ij ⟨u_i,u_j⟩"
        "⟨Xᵀv_i,Xᵀv_j⟩.",
        "theorem on general dropout distributions, E5; paper section 3",
    ),
    linear.DESCENT,
)
