"""What global_minimum and rank_collapse share: SGD on a grid of noisy networks beside the closed form."""

from collections.abc import Sequence
from math import isclose, nan
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro import theory
from repro.data.linear import LinearData, compact
from repro.dropout import MaskDistribution
from repro.papers.structured_dropout import linear
from repro.papers.structured_dropout.settings import LinearConfig
from repro.pipeline.store import Piece, Run
from repro.pipeline.system import threads
from repro.pipeline.system.progress import Progress
from repro.training.sweep.engine import Schedule, initial_factors, log_steps, train
from repro.training.sweep.noise import Cell, Problem, noise_of

# Singular values of the closed form below this fraction of its largest are no reference for a relative error.
NEGLIGIBLE = 1e-3

# Closed forms that are computed together.
AT_ONCE = 16

# Two weights of a penalty closer than this are one, but for the rounding of the moments that they come from.
ROUNDING = 1e-9


class ClosedForms(NamedTuple):
    """What theory knows of the cells' minima.

    Attributes:
        table: the cells', with `p`, 1/(1 + λ) where there is a closed form, else as configured or NaN, and the columns
            `closed_form` (objective), `closed_form_rank`, `closed_form_effective_rank`.
        spectra: singular values, (cells, n), decreasing; like the columns NaN where there is no closed form.
        sizes: r of each cell's closed form, 0 where there is none.
    """

    table: pd.DataFrame
    spectra: np.ndarray
    sizes: list[int]


class Trained(NamedTuple):
    """A trained grid.

    Attributes:
        cells: one row a cell: configuration, closed form and final measurements.
        curves: one row a logged step and cell: `objective`, `relative_gap` to the closed form, `imbalance` (the
            coefficient of variation of the block norms ‖U_iV_iᵀX‖_F).
        singular_values: of the final UVᵀX, (cells, n), decreasing.
        closed_form: of the closed form, (cells, n).
        block_norms: ‖U_iV_iᵀX‖_F of each cell, of single units where there is no closed form, then NaN.
    """

    cells: pd.DataFrame
    curves: pd.DataFrame
    singular_values: np.ndarray
    closed_form: np.ndarray
    block_norms: np.ndarray


def equal_blocks(masks: MaskDistribution, data: LinearData) -> tuple[int, float] | None:
    """(r, w) where the masks' deterministic objective is ‖Y − UVᵀX‖² + w Σ_i ‖U_iV_iᵀX‖² over blocks of r units.

    Masks on weights of equal variance are Dropout on U, and on V where XXᵀ is a multiple of the identity. w is exactly
    (1−θ)/θ where it is that, so that all noise of one rate has one closed form.
    """
    if masks.target == "hidden":
        found = theory.equal_blocks(masks.relative_covariance)
    else:
        variance, gram = masks.relative_variance, data.X @ data.X.mT
        identity = gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
        white = masks.target == "U" or torch.allclose(gram, identity, ROUNDING, ROUNDING)
        weight = float(variance.mean())
        found = (1, weight) if white and float((variance - weight).abs().max()) <= ROUNDING * weight else None
    if found is None:
        return None
    usual = (1 - masks.retain) / masks.retain
    return found[0], usual if isclose(found[1], usual, rel_tol=ROUNDING) else found[1]


def closed_forms(cells: Sequence[Cell], table: pd.DataFrame, data: LinearData) -> ClosedForms:
    """The closed-form minimum of each cell, where there is one."""
    X, Y = compact(data)
    sizes, rates = [], []
    for cell, given in zip(cells, table.get("p", pd.Series(nan, table.index)), strict=True):
        size, weight = equal_blocks(cell.masks, data) or (0, nan)
        p = 1 / (1 + weight * size / cell.masks.shape[-1])
        sizes.append(size)
        rates.append(given if not size or isclose(p, given, rel_tol=ROUNDING) else p)
    keys = list(zip(sizes, rates, strict=True))
    known: dict[tuple[int, float], tuple[object, ...]] = {}
    for size in dict.fromkeys(filter(None, sizes)):
        wanted = [p for r, p in dict.fromkeys(keys) if r == size]
        # A few p at a time: each has a prediction of the size of Y.
        for some in (wanted[i : i + AT_ONCE] for i in range(0, len(wanted), AT_ONCE)):
            minimum = theory.global_minimizer(Y, X, size, torch.tensor(some, dtype=torch.float64))
            spectra = minimum.singular_values
            columns = (minimum.objective, minimum.rank, theory.effective_rank(spectra))
            found = zip(*(column.tolist() for column in columns), spectra.numpy(), strict=True)
            known |= {(size, p): row for p, row in zip(some, found, strict=True)}
    nothing = (nan, nan, nan, np.full(min(Y.shape), nan))
    objective, rank, effective_rank, spectrum = zip(*(known.get(key, nothing) for key in keys), strict=True)
    table = table.assign(
        p=rates, closed_form=objective, closed_form_rank=rank, closed_form_effective_rank=effective_rank
    )
    return ClosedForms(table, np.stack(spectrum), sizes)


def train_grid(data: LinearData, config: LinearConfig, progress: Progress) -> Trained:
    """SGD on every cell of the grid, beside the closed-form global minimum; in parts where a launcher cuts it."""
    cells, table = linear.grid(config, data)
    theirs = closed_forms(cells, table, data)
    predicted, largest = theirs.spectra, config.model.width // min(size or 1 for size in theirs.sizes)

    def part(start: int, stop: int) -> Piece:
        groups = [[start + i for i in group] for group in linear.by_target(cells[start:stop])]
        tables, arrays = zip(*(_train(data, cells, theirs, group, config, progress) for group in groups), strict=True)
        order = np.argsort(np.concatenate(groups))
        return Piece(pd.concat(tables), {k: np.concatenate([some[k] for some in arrays])[order] for k in arrays[0]})

    rows, found = Run(config).parts.each(part, len(cells))
    curves = rows.sort_values(["step", "cell"], ignore_index=True)
    final = curves[curves.step == curves.step.max()].reset_index(drop=True)
    measured = found["singular_values"]
    alive = np.isfinite(measured).all(1)
    error = np.linalg.norm(measured - predicted, axis=1) / np.linalg.norm(predicted, axis=1)
    table = theirs.table.assign(
        objective=final.objective,
        relative_gap=final.relative_gap,
        imbalance=final.imbalance,
        singular_value_error=error,
        minimizer_distance=found["distances"],
        effective_rank=[
            float(theory.effective_rank(torch.from_numpy(m))) if ok else nan
            for m, ok in zip(measured, alive, strict=True)
        ],
        diverged=~alive,
    )
    return Trained(table, curves, measured, predicted, found["block_norms"][:, :largest])


def _train(
    data: LinearData,
    all_cells: Sequence[Cell],
    theirs: ClosedForms,
    numbers: Sequence[int],
    config: LinearConfig,
    progress: Progress,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """SGD on the cells of these numbers, which mask one target: curves; of the end `singular_values`, `distances` and
    `block_norms`."""
    cells, table = [all_cells[number] for number in numbers], theirs.table.iloc[list(numbers)]
    sizes = [theirs.sizes[number] for number in numbers]
    problem = Problem.from_data(*data)
    plan = Schedule.of(config.training)
    exact_problem = problem.to(config.device, problem.gram.dtype)
    exact = noise_of(exact_problem, cells)
    rows: list[pd.DataFrame] = []
    norms: list[np.ndarray] = []

    def measure(step: int, U: Tensor, V: Tensor) -> None:
        nonlocal norms
        objective = exact.objective(U, V).cpu().numpy()
        products = ((U.mT @ U) * (V.mT @ (exact_problem.gram @ V))).cpu().numpy()
        norms = [block_norms(product, size or 1) for product, size in zip(products, sizes, strict=True)]
        rows.append(
            pd.DataFrame(
                {
                    "cell": numbers,
                    "step": step,
                    "objective": objective,
                    "relative_gap": objective / table.closed_form.to_numpy() - 1,
                    "imbalance": [n.std() / n.mean() for n in norms],
                }
            )
        )
        progress.log(rows[-1].to_dict("records"))

    with progress.phase("SGD", total=plan.steps) as bar:
        U, V = train(
            problem.placed(config.device, config.training.dtype),
            cells,
            initial_factors(problem, cells, config.model.init_scale),
            plan,
            log_at=log_steps(plan.steps, config.training.log_points),
            measure=measure,
            advance=bar.advance,
            threads=threads.available(config.threads),
        )
    U, V = U.double().cpu(), V.double().cpu()
    padded = [np.pad(norm, (0, config.model.width - len(norm)), constant_values=nan) for norm in norms]
    return pd.concat(rows), {
        "singular_values": _singular_values(U, V, problem, theirs.spectra.shape[1]),
        "distances": _distances(U, V, data, sizes, table.p.tolist()),
        "block_norms": np.stack(padded),
    }


def _distances(U: Tensor, V: Tensor, data: LinearData, sizes: Sequence[int], rates: Sequence[float]) -> np.ndarray:
    """‖UVᵀX − A‖_F / ‖A‖_F of each cell to the matrix A that minimises the closed form, of which there is one."""
    X, Y = compact(data)
    keys = list(zip(sizes, rates, strict=True))
    minimizers = {(r, p): theory.global_minimizer(Y, X, r, p).prediction for r, p in dict.fromkeys(keys) if r}
    found = np.full(len(keys), nan)
    for i, (u, v, key) in enumerate(zip(U, V, keys, strict=True)):
        if (A := minimizers.get(key)) is not None:
            found[i] = float(torch.linalg.norm(u @ (v.mT @ X) - A) / torch.linalg.norm(A))
    return found


def block_norms(products: np.ndarray, block_size: int) -> np.ndarray:
    """‖U_iV_iᵀX‖_F of each block from UᵀU ∘ VᵀXXᵀV (d, d), whose block sums they are squared."""
    k = len(products) // block_size
    with np.errstate(invalid="ignore", over="ignore"):  # a diverged cell
        blocks = products.reshape(k, block_size, k, block_size).sum((1, 3))
        return np.sqrt(np.maximum(np.diagonal(blocks), 0))


def _singular_values(U: Tensor, V: Tensor, problem: Problem, count: int) -> np.ndarray:
    """The `count` largest singular values of UVᵀX, from XXᵀ alone; NaN for a diverged cell."""
    values, vectors = torch.linalg.eigh(problem.gram)
    root = vectors * values.clamp_min(0).sqrt()
    found = np.full((len(U), count), nan)
    for i, (u, v) in enumerate(zip(U, V, strict=True)):
        if u.isfinite().all() and v.isfinite().all():
            # Through QR of both thin factors: the d×d middle has the singular values of the product.
            left, right = torch.linalg.qr(u)[1], torch.linalg.qr(root.mT @ v)[1]
            kept = torch.linalg.svdvals(left @ right.mT)[:count].numpy()
            found[i] = 0
            found[i, : len(kept)] = kept
    return found


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
