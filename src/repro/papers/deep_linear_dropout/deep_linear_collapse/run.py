"""SGD on the stochastic objective, L-BFGS on the deterministic one, and the closed form beside both."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro import theory
from repro.data.linear import LinearData, load
from repro.dropout import Bernoulli
from repro.papers.deep_linear_dropout import sgd
from repro.papers.deep_linear_dropout.deep_linear_collapse import (
    AROUND,
    COLLAPSE,
    Config,
    Options,
    measured_share,
    single_layer_difference,
)
from repro.papers.deep_linear_dropout.sgd import Group
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress
from repro.training.sweep import deep_linear, solver
from repro.training.sweep.deep_linear import DeepSolution, LayerNoise, root_of, singular_values
from repro.training.sweep.noise import Problem

# Share of the onset λ at which so many random starts look for branches of higher rank: near the onset they miss them.
FAR, BRANCHES = 0.5, 3
# How many values of θ the theory's curves are drawn through.
CURVE_POINTS = 100


def run(config: Config, progress: Progress) -> Result:
    data = load(config.data)
    spectrum = theory.target_spectrum(data.Y, data.X)
    unreachable = float(data.Y.square().sum() - spectrum.square().sum())
    table, curves, trained = _trained(data, sgd.groups(config), config, progress)
    bound, shrunk = _lower_bound(spectrum, unreachable, table.penalty)
    table = pd.concat([table, bound], axis=1)
    table = _solved(spectrum, unreachable, table, config.options.starts, progress)
    collapse = _onsets(spectrum, table, config.options, progress)
    table = table.assign(
        relative_gap=table.objective / table.closed_form - 1,
        solver_gap=table.solver_objective / table.closed_form - 1,
        critical_retain=table.merge(collapse, on=["depth", "width"], how="left").predicted,
    )
    arrays = {
        "singular_values": trained,
        "closed_form": shrunk,
        "target": spectrum.numpy(),
        **{f"collapse_{name}": collapse[name].to_numpy() for name in collapse},
        **_theory_curves(spectrum, table),
    }
    return Result(table, curves, arrays, _headline(table, collapse))


def _trained(
    data: LinearData, groups: list[Group], config: Config, progress: Progress
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """SGD on the grid: its cells, its curves, and the singular values of every cell's WX (NaN where it diverged)."""
    problem = Problem.from_data(*data)
    exact_problem = problem.to(config.device, problem.gram.dtype)
    root = root_of(exact_problem.gram)
    curves: list[pd.DataFrame] = []

    def measure(group: Group, step: int, *found: Tensor) -> None:
        weights, alive = sgd.alive(found)
        retain = group.retain(config.device)
        columns = {
            "objective": LayerNoise(exact_problem, group.cells).objective(*weights),
            "regularizer": theory.deep_dropout_regularizer(weights, root, retain),
            "bound": theory.regularizer_bound(weights, root, retain),
            "effective_rank": theory.effective_rank(singular_values(weights, root)),
        }
        rows = pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})
        curves.append(rows[alive].assign(cell=group.table.cell[alive], step=step))
        progress.log(curves[-1].to_dict("records"))

    spectra = []
    for trained in sgd.train(problem, groups, config, progress, measure):
        weights, alive = sgd.alive(trained)
        spectra.append(np.where(alive[:, None], singular_values(weights, root.cpu()).numpy(), np.nan))
    curve = pd.concat(curves, ignore_index=True)
    table = pd.concat([group.table for group in groups], ignore_index=True)
    final = curve[curve.step == config.training.steps].drop(columns="step")
    table = table.merge(final, on="cell", how="left")
    return table.assign(diverged=table.objective.isna()), curve, np.concatenate(spectra)


def _lower_bound(spectrum: Tensor, unreachable: float, penalties: pd.Series) -> tuple[pd.DataFrame, np.ndarray]:
    """min_A ‖Y − A‖² + ν‖A‖²_* for each ν: the lower bound `closed_form` of the objective, and its minimiser's rank,
    effective rank and singular values."""
    rows, spectra = [], []
    for penalty in penalties:
        values = theory.shrink_singular_values(spectrum, 1, float(penalty))
        rows.append(
            {
                "closed_form": unreachable + float(theory.minimum_value(spectrum, 1, float(penalty))),
                "closed_form_rank": int((values > 0).sum()),
                "closed_form_effective_rank": float(theory.effective_rank(values)),
            }
        )
        spectra.append(values.numpy())
    return pd.DataFrame(rows), np.stack(spectra)


def _solved(spectrum: Tensor, unreachable: float, table: pd.DataFrame, starts: int, progress: Progress) -> pd.DataFrame:
    """The table with L-BFGS's optimum of each depth, width and rate of which theory says something: one hidden layer,
    where `single_layer_objective` is what the solver for single hidden layers finds, or a closed form of rank 1.

    `singular_value_error` is ‖σ − a‖/‖a‖ against the closed form's a.
    """
    keys = ["depth", "width", "retain"]
    known = table[(table.depth == 2) | (table.closed_form_rank == 1)]
    rows = []
    settings = known[[*keys, "penalty"]].drop_duplicates()
    with progress.phase("L-BFGS", total=len(settings)) as bar:
        for depth, width, retain, penalty in settings.itertuples(index=False):
            best = _optimum(spectrum, (width,) * (depth - 1), retain, starts)
            shrunk = theory.shrink_singular_values(spectrum, 1, penalty)
            row = {"depth": depth, "width": width, "retain": retain, "solver_objective": unreachable + best.objective}
            row["singular_value_error"] = float(torch.dist(best.singular_values, shrunk) / shrunk.norm())
            if depth == 2:
                masks = Bernoulli(width, retain)
                others = [solver.solve(spectrum, unreachable, masks, seed).objective for seed in range(starts)]
                row["single_layer_objective"] = min(others)
            rows.append(row)
            bar.advance(1)
    names = [*keys, "solver_objective", "singular_value_error", "single_layer_objective"]
    return table.merge(pd.DataFrame(rows, columns=names), on=keys, how="left")


def _optimum(spectrum: Tensor, widths: tuple[int, ...], retain: float, starts: int) -> DeepSolution:
    """The best of several starts, without the part of ‖Y‖² that no network can fit."""
    found = [deep_linear.solve(spectrum, 0.0, widths, retain, seed) for seed in range(starts)]
    return min(found, key=lambda solution: solution.objective)


def _onsets(spectrum: Tensor, table: pd.DataFrame, options: Options, progress: Progress) -> pd.DataFrame:
    """For each depth and width the θ up to which rank 1 is certain, `predicted`, and up to which it is the optimum,
    `onset` (`theory.collapse_onset`, with `ratio`), beside the full network at (1 ∓ `AROUND`) times its λ: of the
    lowest minimum that follows from those at `FAR`, second over first singular value, `below` and `above`, and the
    objective over that of rank 1, less 1, `gap_below` and `gap_above`; `least`, the latter of whatever random starts
    find too. All without what no network can fit; NaN where there is no onset."""
    settings = table[["depth", "width"]].drop_duplicates()
    derived = {depth: theory.collapse_onset(spectrum, depth - 1) for depth in settings.depth.unique().tolist()}
    rows = []
    with progress.phase("onset", total=len(settings)) as bar:
        for depth, width in settings.itertuples(index=False):
            widths, onset = (width,) * (depth - 1), derived[depth]
            row = {"depth": depth, "width": width, "predicted": theory.critical_retain(spectrum, widths)}
            row |= {"onset": 1 / (1 + width * onset.rate), "ratio": onset.ratio}
            if np.isfinite(onset.rate):
                far = 1 / (1 + FAR * width * onset.rate)
                tried = [deep_linear.solve(spectrum, 0.0, widths, far, seed) for seed in range(BRANCHES)]
                begun = [*{f"{solution.objective:.9g}": solution for solution in tried}.values()]
                for side, share in (("below", 1 - AROUND), ("above", 1 + AROUND)):
                    retain = 1 / (1 + share * width * onset.rate)
                    shrunk = spectrum[0] ** 2 / (1 + theory.induced_penalty(widths, retain))
                    rank_one = float(spectrum.square().sum() - shrunk)
                    found = [deep_linear.solve(spectrum, 0.0, widths, retain, 0, old.point) for old in begun]
                    begun = [min(found, key=lambda solution: solution.objective)]  # after it, that one alone
                    row[side] = float(begun[0].singular_values[1] / begun[0].singular_values[0])
                    row[f"gap_{side}"] = begun[0].objective / rank_one - 1
                anew = _optimum(spectrum, widths, retain, options.starts).objective / rank_one - 1
                row["least"] = min(row["gap_above"], anew)
            rows.append(row)
            bar.advance(1)
    return pd.DataFrame(rows, columns=COLLAPSE)


def _theory_curves(spectrum: Tensor, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Rank and effective rank of the lower bound's minimiser over θ, one row for each depth and width of the table."""
    margin = 0.3 * table.retain.min()
    rates = np.linspace(margin, min(0.99, table.retain.max() + 0.05), CURVE_POINTS)
    ranks, effective = [], []
    for depth, width in table[["depth", "width"]].drop_duplicates().itertuples(index=False):
        penalties = pd.Series([theory.induced_penalty((width,) * (depth - 1), float(theta)) for theta in rates])
        found = _lower_bound(spectrum, 0.0, penalties)[0]
        ranks.append(found.closed_form_rank)
        effective.append(found.closed_form_effective_rank)
    return {"curve_retain": rates, "curve_rank": np.stack(ranks), "curve_effective_rank": np.stack(effective)}


def _headline(table: pd.DataFrame, collapse: pd.DataFrame) -> dict[str, float]:
    certain = table.retain <= table.critical_retain
    return {
        "largest gap of L-BFGS to the rank-1 closed form": float(table.solver_gap[certain].abs().max()),
        "largest difference to single-hidden-layer theory": float(single_layer_difference(table).max()),
        "median gap of SGD to the rank-1 closed form": float(table.relative_gap[certain].median()),
        "smallest gap of SGD to the lower bound": float(table.relative_gap.min()),
        "largest effective rank of SGD where rank 1 is certain": float(table.effective_rank[certain].max()),
        "networks whose rank does not fall to 1 at the onset": float(measured_share(collapse).isna().sum()),
        "largest relative error of the onset": float((measured_share(collapse) - 1).abs().max()),
        "diverged cells": float(table.diverged.sum()),
    }
