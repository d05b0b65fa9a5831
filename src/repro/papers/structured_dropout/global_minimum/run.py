"""Trains by SGD, minimises by L-BFGS, and looks for the width from which the minimum is the closed form."""

import time
from collections.abc import Sequence
from math import nan

import pandas as pd
import torch

from repro import theory
from repro.data.linear import LinearData, compact, load
from repro.data.synthetic import Settings as SyntheticData
from repro.dropout import Bernoulli, DropBlock
from repro.papers.structured_dropout import linear, minimum
from repro.papers.structured_dropout.global_minimum import Config, WidthNeeded
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress
from repro.training.sweep.noise import Cell
from repro.training.sweep.solver import solve

# What one solution of L-BFGS stands for: cells that differ in their seeds alone.
SAME = ["scheme", "block_size", "retain"]

# Of L-BFGS where SGD alone is compared with it: some noise has a flat minimum, whose last digits take minutes; and how
# many starts it has there, where no closed form says that one has found the minimum.
PRECISION = 1e-10
STARTS = 3


def run(config: Config, progress: Progress) -> Result:
    data = load(config.data)
    with progress.watched(linear.grid(config, data)[1].to_dict("records")):
        trained = minimum.train_grid(data, config, progress)
    table, found = trained.cells, minimum.headline(trained)
    if config.options.solve:
        table = table.merge(_solver_gaps(data, linear.grid(config, data)[0], table, progress), on=SAME)
        found |= {"largest gap of L-BFGS": float(table.solver_gap.abs().max())}
    arrays = {
        "singular_values": trained.singular_values,
        "closed_form": trained.closed_form,
        "block_norms": trained.block_norms,
    }
    if config.options.width_needed:
        widths = _widths(config.options.width_needed, progress)
        arrays |= {f"width_needed_{column}": widths[column].to_numpy() for column in widths}
    return Result(table, trained.curves, arrays, found)


def rest_seconds(config: Config) -> float:
    """About what L-BFGS takes, from a few of its solutions."""
    quiet, options, seconds = Progress("", quiet=True), config.options.width_needed, 0.0
    if options:
        middle = sum(options.widths) // 2
        few = options.model_copy(update={"widths": (middle, middle + max(options.block_sizes) - 1), "starts": 1})
        started = time.monotonic()
        _widths(few, quiet)
        seconds = (time.monotonic() - started) * options.starts * len(options.grid()) / len(few.grid())
    if config.options.solve:
        data = load(config.data)
        cells, table = linear.grid(config, data)
        one = table.iloc[[len(table) // 2]].assign(closed_form=1.0, p=0.5)
        started = time.monotonic()
        _solver_gaps(data, cells, one, quiet)
        seconds += (time.monotonic() - started) * len(table.drop_duplicates(SAME))
    return seconds


def _solver_gaps(data: LinearData, cells: Sequence[Cell], table: pd.DataFrame, progress: Progress) -> pd.DataFrame:
    """What L-BFGS finds for each noise of `table`.

    `solver_gap` is its relative gap to the closed form; `induced_error` that between the penalty of its factors,
    w Σ‖U_iV_iᵀX‖², and λ‖UVᵀX‖²_(r), which the penalty is at least, and at a minimum exactly. Where some noise has no
    closed form, `solver_objective` is what L-BFGS reaches. NaN where it does not apply: masks on weights that are not
    Dropout.
    """
    spectrum, residual = _target(data)
    configurations = table.drop_duplicates(SAME)
    gaps, induced, objectives = [], [], []
    with progress.phase("L-BFGS", total=len(configurations)) as bar:
        for row in configurations.itertuples():
            masks, error, objective = cells[row.cell].masks, nan, nan
            size, weight = minimum.equal_blocks(masks, data) or (0, nan)
            if size and masks.target != "hidden":
                masks = Bernoulli(row.width, 1 / (1 + weight))
            if masks.target == "hidden":
                starts, precision = (1, 0.0) if size else (STARTS, PRECISION)
                found = [solve(spectrum, residual, masks, row.seed + i, precision) for i in range(starts)]
                solution = min(found, key=lambda one: one.objective)
                objective = solution.objective
            if size:
                norms = minimum.block_norms(solution.block_products.prod(0).numpy(), size)
                norm = float(theory.spectral_k_support_norm(solution.singular_values.diag(), size))
                error = weight * float((norms**2).sum()) / ((1 - row.p) / row.p * norm**2) - 1
            gaps.append(objective / row.closed_form - 1)
            induced.append(error)
            objectives.append(objective)
            bar.advance(1)
    rows = configurations[SAME].assign(solver_gap=gaps, induced_error=induced)
    return rows.assign(solver_objective=objectives) if table.closed_form.isna().any() else rows


def _target(data: LinearData) -> tuple[torch.Tensor, float]:
    """The singular values of YX⁺X, and ‖Y − YX⁺X‖²."""
    spectrum = theory.target_spectrum(data.Y, data.X)
    return spectrum, float(data.Y.square().sum() - spectrum.square().sum())


def _widths(options: WidthNeeded, progress: Progress) -> pd.DataFrame:
    """The smallest relative gap over random starts for each block size and width, and the width that is derived:
    `block_size`, `width`, `gap`, `derived`."""
    settings = SyntheticData(
        kind="synthetic", in_features=options.features, out_features=options.features, samples=options.samples,
        rank=options.rank, noise=0.0, correlation=0.0, whiten=False, seed=0,
    )  # fmt: skip
    data = load(settings)
    (X, Y), (spectrum, residual) = compact(data), _target(data)
    p, rows = torch.tensor([options.p], dtype=torch.float64), []
    with progress.phase("width needed", total=len(options.grid())) as bar:
        for r, d in options.grid():
            reference = theory.global_minimizer(Y, X, r, p).objective.item()
            masks = DropBlock(d, r, theory.retain_probability(options.p, d, r))
            best = min(solve(spectrum, residual, masks, seed).objective for seed in range(options.starts))
            needed = r * theory.blocks_needed(spectrum, r, (1 - options.p) / options.p)
            rows.append({"block_size": r, "width": d, "gap": best / reference - 1, "derived": needed})
            bar.advance(1)
    return pd.DataFrame(rows)
