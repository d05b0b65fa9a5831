"""What global_minimum and rank_collapse share: SGD on a grid of DropBlock networks beside the closed form."""

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from repro import parts
from repro.claims import Claim
from repro.config import LinearConfig as Config
from repro.experiments import linear
from repro.progress import Progress
from repro.records import Record

if TYPE_CHECKING:
    from torch import Tensor

    from repro.data.linear import LinearData
    from repro.training.noise import Cell, Problem

# Singular values of the closed form below this fraction of its largest are no reference for a relative error.
NEGLIGIBLE = 1e-3

# Closed forms that are computed together.
AT_ONCE = 16


class Trained(NamedTuple):
    """A trained grid.

    Attributes:
        cells: one row a cell: configuration, closed form and final measurements.
        curves: one row a logged step and cell: `objective`, `relative_gap` to the closed form, `imbalance` (the
            coefficient of variation of the block norms ‖U_iV_iᵀX‖_F).
        singular_values: of the final UVᵀX, (cells, n), decreasing.
        closed_form: of the closed form, (cells, n).
        block_norms: ‖U_iV_iᵀX‖_F of each cell, as one list a cell.
    """

    cells: pd.DataFrame
    curves: pd.DataFrame
    singular_values: np.ndarray
    closed_form: np.ndarray
    block_norms: list[np.ndarray]


def train_grid(data: "LinearData", cfg: Config, progress: Progress) -> Trained:
    """SGD on every cell of the grid, beside the closed-form global minimum; in `parts` where a launcher cuts it."""
    import torch

    from repro.theory import effective_rank

    cells, table = linear.grid(cfg)
    theory = closed_forms(data, table)
    table = table.merge(theory.drop(columns="singular_values"), on=["block_size", "p"])
    predicted = np.stack(table[["block_size", "p"]].merge(theory, on=["block_size", "p"])["singular_values"].to_numpy())

    def part(start: int, stop: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, list[np.ndarray]]:
        return _train(data, cells[start:stop], table[start:stop], predicted.shape[1], cfg, progress)

    rows, spectra, distances, norms = zip(*parts.each(part, len(cells), cfg), strict=True)
    curves = pd.concat(rows).sort_values(["step", "cell"], kind="stable", ignore_index=True)
    measured = np.concatenate(spectra)
    final = curves[curves.step == curves.step.max()].reset_index(drop=True)
    alive = np.isfinite(measured).all(1)
    error = np.linalg.norm(measured - predicted, axis=1) / np.linalg.norm(predicted, axis=1)
    table = table.assign(
        objective=final.objective,
        relative_gap=final.relative_gap,
        imbalance=final.imbalance,
        singular_value_error=error,
        minimizer_distance=np.concatenate(distances),
        effective_rank=[
            float(effective_rank(torch.from_numpy(m))) if ok else np.nan for m, ok in zip(measured, alive, strict=True)
        ],
        diverged=~alive,
    )
    return Trained(table, curves, measured, predicted, [norm for some in norms for norm in some])


def _train(
    data: "LinearData", cells: "Sequence[Cell]", table: pd.DataFrame, count: int, cfg: Config, progress: Progress
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, list[np.ndarray]]:
    """SGD on some of the cells: curves; of the end `count` singular values, `_distances` and block norms of each."""
    from repro.training.noise import Problem, noise_of
    from repro.training.sweep import initial_factors, log_steps, train

    problem = Problem.from_data(*data)
    plan = linear.schedule(cfg)
    exact_problem = problem.to(cfg.device, problem.gram.dtype)
    exact = noise_of(exact_problem, cells)
    rows: list[pd.DataFrame] = []
    norms: list[np.ndarray] = []

    def measure(step: int, U: "Tensor", V: "Tensor") -> None:
        nonlocal norms
        objective = exact.objective(U, V).cpu().numpy()
        products = ((U.mT @ U) * (V.mT @ (exact_problem.gram @ V))).cpu().numpy()
        norms = [block_norms(product, size) for product, size in zip(products, table.block_size, strict=True)]
        rows.append(
            pd.DataFrame(
                {
                    "cell": table.cell.to_numpy(),
                    "step": step,
                    "objective": objective,
                    "relative_gap": objective / table.closed_form.to_numpy() - 1,
                    "imbalance": [n.std() / n.mean() for n in norms],
                }
            )
        )

    with progress.phase("SGD", total=plan.steps) as bar:
        U, V = train(
            linear.placed(problem, cfg),
            cells,
            initial_factors(problem, cells, cfg.model.init_scale),
            plan,
            log_at=log_steps(plan.steps, cfg.training.log_points),
            measure=measure,
            advance=bar.advance,
        )
    U, V = U.double().cpu(), V.double().cpu()
    return pd.concat(rows), _singular_values(U, V, problem, count), _distances(U, V, data, table), norms


def closed_forms(data: "LinearData", grid: pd.DataFrame) -> pd.DataFrame:
    """The closed-form minimum of each (block_size, p) of `grid`: objective, rank, effective rank, spectrum."""
    import torch

    from repro.theory import effective_rank, global_minimizer

    X, Y = linear.compact(data)
    pairs = grid[["block_size", "p"]].drop_duplicates()
    found = []
    # A few p at a time: each has a prediction of the size of Y.
    for (size, _), rows in pairs.groupby(["block_size", pairs.groupby("block_size").cumcount() // AT_ONCE], sort=False):
        minimum = global_minimizer(Y, X, int(size), torch.tensor(rows.p.to_numpy()))
        found.append(
            rows.assign(
                closed_form=minimum.objective.numpy(),
                closed_form_rank=minimum.rank.numpy(),
                closed_form_effective_rank=effective_rank(minimum.singular_values).numpy(),
                singular_values=list(minimum.singular_values.numpy()),
            )
        )
    return pd.concat(found, ignore_index=True)


def _distances(U: "Tensor", V: "Tensor", data: "LinearData", table: pd.DataFrame) -> np.ndarray:
    """‖UVᵀX − A‖_F / ‖A‖_F of each cell to the matrix A that minimises the closed form, of which there is one."""
    import torch

    from repro.theory import global_minimizer

    X, Y = linear.compact(data)
    minimizers = {
        (size, p): global_minimizer(Y, X, int(size), float(p)).prediction
        for size, p in table[["block_size", "p"]].drop_duplicates().itertuples(index=False)
    }
    found = []
    for u, v, size, p in zip(U, V, table.block_size, table.p, strict=True):
        A = minimizers[size, p]
        found.append(float(torch.linalg.norm(u @ (v.mT @ X) - A) / torch.linalg.norm(A)))
    return np.array(found)


def block_norms(products: np.ndarray, block_size: int) -> np.ndarray:
    """‖U_iV_iᵀX‖_F of each block from UᵀU ∘ VᵀXXᵀV (d, d), whose block sums they are squared."""
    k = len(products) // block_size
    with np.errstate(invalid="ignore", over="ignore"):  # a diverged cell
        blocks = products.reshape(k, block_size, k, block_size).sum((1, 3))
        return np.sqrt(np.maximum(np.diagonal(blocks), 0))


def _singular_values(U: "Tensor", V: "Tensor", problem: "Problem", count: int) -> np.ndarray:
    """The `count` largest singular values of UVᵀX, from XXᵀ alone; NaN for a diverged cell."""
    import torch

    values, vectors = torch.linalg.eigh(problem.gram)
    root = vectors * values.clamp_min(0).sqrt()
    found = np.full((len(U), count), np.nan)
    for i, (u, v) in enumerate(zip(U, V, strict=True)):
        if u.isfinite().all() and v.isfinite().all():
            # Through QR of both thin factors: the d×d middle has the singular values of the product.
            left, right = torch.linalg.qr(u)[1], torch.linalg.qr(root.mT @ v)[1]
            kept = torch.linalg.svdvals(left @ right.mT)[:count].numpy()
            found[i] = 0
            found[i, : len(kept)] = kept
    return found


# ---------------------------------------------------------------------- claims


def _of_cells(column: str, statistic: str) -> Any:
    """A statistic over the cells of each seed; NaN where a cell diverged, since then nothing was reached."""

    def measure(record: Record) -> pd.Series:
        cells = record.cells
        values = cells[column].abs().groupby(cells.seed).agg(statistic)
        return values.where(~cells.diverged.groupby(cells.seed).any())

    return measure


TRAINED = ("cpu", "gpu")
"""The scales at which training lasts long enough to be compared with the closed form."""

CLAIMS = (
    Claim(
        id="sgd_reaches_minimum",
        statement="Training with DropBlock reaches the global minimum of the regularised objective in closed form.",
        source="theorem on global minimisers, E2; paper section 1",
        quantity="largest relative gap between SGD's final deterministic objective and the closed form",
        low=-inf,
        high=1e-3,
        because="SGD ends within its own noise of the minimum; above or below, the distance counts",
        measure=_of_cells("relative_gap", "max"),
        scales=TRAINED,
    ),
    Claim(
        id="sgd_reaches_minimizer",
        statement="What training arrives at is the closed-form matrix itself, not only its value.",
        source="theorem on global minimisers, E2; paper section 1",
        quantity="largest ‖UVᵀX − A‖ / ‖A‖ over the grid",
        low=-inf,
        high=0.1,
        because="a relative gap of 1e-4 in a quadratic objective is a distance of 1e-2, and more where dropout has "
        "left little of A; a wrong regulariser is off by tens of per cent",
        measure=_of_cells("minimizer_distance", "max"),
        scales=TRAINED,
    ),
    Claim(
        id="singular_values",
        statement="Singular values are shrunk by the proximal map of the squared r-support norm.",
        source="theorem on global minimisers, E2 and E4; paper section 1",
        quantity="largest ‖σ(UVᵀX) − a‖ / ‖a‖ over the grid",
        low=-inf,
        high=0.1,
        because="as for the matrix",
        measure=_of_cells("singular_value_error", "max"),
        scales=TRAINED,
    ),
    Claim(
        id="balanced_blocks",
        statement="At a minimum all blocks contribute equally: ‖U_1V_1ᵀX‖ = … = ‖U_kV_kᵀX‖.",
        source="proposition on balancedness, E2; paper section 1",
        quantity="largest coefficient of variation of the block norms over the grid",
        low=-inf,
        high=0.1,
        because="the objective is flat to second order around balance, so SGD's noise shows most here",
        measure=_of_cells("imbalance", "max"),
        scales=TRAINED,
    ),
)


def headline(trained: Trained) -> dict[str, float]:
    """The numbers that answer whether training reached the closed form."""
    cells = trained.cells[~trained.cells.diverged]
    reference = trained.closed_form
    relevant = (reference > NEGLIGIBLE * reference[:, :1]) & np.isfinite(trained.singular_values)
    relative = np.abs(trained.singular_values - reference)[relevant] / reference[relevant]
    return {
        "median gap to the closed form": float(cells.relative_gap.median()),
        "largest gap to the closed form": float(cells.relative_gap.max()),
        "median relative error of a singular value": float(pd.Series(relative).median()),  # NaN where all diverged
        "median imbalance of the blocks": float(cells.imbalance.median()),
        "diverged cells": float(trained.cells.diverged.sum()),
    }
