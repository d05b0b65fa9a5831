"""How dropout lowers the rank of what a deep linear network learns, against its rate, depth and width.

The objective is never below min_A ‖Y − A‖² + ν‖A‖²_*, whose minimiser shrinks the singular values of YX⁺X. With one
hidden layer that is the optimum; with more it is where that minimiser has rank 1, from ν = m_2/(m_1 − m_2) on: there
collapse is certain. L-BFGS on the deterministic objective says where it happens, SGD on the stochastic one follows.
"""

from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, NonNegativeInt, PositiveInt

from repro.claims import Claim
from repro.experiments import deep_linear
from repro.experiments.deep_linear import Config, Group
from repro.progress import Progress
from repro.records import Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from repro.data.linear import LinearData
    from repro.training.deep_linear import DeepSolution

# A singular value counts towards a rank above this fraction of the largest.
COUNTED = 1e-3
# The search for the rate of collapse starts between these multiples of the rate λ = (1−θ)/θ that theory gives.
BRACKET = (0.1, 1.5)
COLLAPSE = ["depth", "width", "predicted", "measured", "above"]
# How many values of θ the theory's curves are drawn through.
CURVE_POINTS = 100


class Options(BaseModel, extra="forbid", frozen=True):
    """`starts`: random starts of L-BFGS, of which the best counts. `halvings`: of the bracket, on a logarithmic scale,
    around the rate at which the optimum's rank becomes 1."""

    starts: PositiveInt = 2
    halvings: NonNegativeInt = 8


def run(cfg: Config, progress: Progress) -> Result:
    from repro.data.linear import load
    from repro.theory import target_spectrum

    data = load(cfg.data)
    spectrum = target_spectrum(data.Y, data.X)
    unreachable = float(data.Y.square().sum() - spectrum.square().sum())
    groups = deep_linear.groups(cfg)
    table, curves, trained = _trained(data, groups, cfg, progress)
    theory, shrunk = _theory(spectrum, unreachable, table.penalty)
    table = pd.concat([table, theory], axis=1)
    table = _solved(spectrum, unreachable, table, cfg.options.starts, progress)
    collapse = _collapse_rates(spectrum, unreachable, table, cfg.options, progress)
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
    data: "LinearData", groups: list[Group], cfg: Config, progress: Progress
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """SGD on the grid: its cells, its curves, and the singular values of every cell's WX (NaN where it diverged)."""
    import torch

    from repro.theory import deep_dropout_regularizer, effective_rank, regularizer_bound
    from repro.training.deep_linear import LayerNoise, root_of, singular_values
    from repro.training.noise import Problem

    problem = Problem.from_data(*data)
    exact_problem = problem.to(cfg.device, problem.gram.dtype)
    root = root_of(exact_problem.gram)
    curves: list[pd.DataFrame] = []

    def measure(group: Group, step: int, *found: "Tensor") -> None:
        weights, alive = deep_linear.alive(found)
        retain = torch.tensor(group.table.retain.to_numpy(), device=cfg.device)
        columns = {
            "objective": LayerNoise(exact_problem, group.cells).objective(*weights),
            "regularizer": deep_dropout_regularizer(weights, root, retain),
            "bound": regularizer_bound(weights, root, retain),
            "effective_rank": effective_rank(singular_values(weights, root)),
        }
        rows = pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})
        curves.append(rows[alive].assign(cell=group.table.cell[alive], step=step))

    spectra = []
    for trained in deep_linear.train(problem, groups, cfg, progress, measure):
        weights, alive = deep_linear.alive(trained)
        spectra.append(np.where(alive[:, None], singular_values(weights, root.cpu()).numpy(), np.nan))
    curve = pd.concat(curves, ignore_index=True)
    table = pd.concat([group.table for group in groups], ignore_index=True)
    final = curve[curve.step == cfg.training.steps].drop(columns="step")
    table = table.merge(final, on="cell", how="left")
    return table.assign(diverged=table.objective.isna()), curve, np.concatenate(spectra)


def _theory(spectrum: "Tensor", unreachable: float, penalties: "pd.Series[float]") -> tuple[pd.DataFrame, np.ndarray]:
    """min_A ‖Y − A‖² + ν‖A‖²_* for each ν: the lower bound `closed_form` of the objective, and its minimiser's rank,
    effective rank and singular values."""
    from repro.theory import effective_rank, minimum_value, shrink_singular_values

    rows, spectra = [], []
    for penalty in penalties:
        values = shrink_singular_values(spectrum, 1, float(penalty))
        rows.append(
            {
                "closed_form": unreachable + float(minimum_value(spectrum, 1, float(penalty))),
                "closed_form_rank": int((values > 0).sum()),
                "closed_form_effective_rank": float(effective_rank(values)),
            }
        )
        spectra.append(values.numpy())
    return pd.DataFrame(rows), np.stack(spectra)


def _solved(
    spectrum: "Tensor", unreachable: float, table: pd.DataFrame, starts: int, progress: Progress
) -> pd.DataFrame:
    """The table with L-BFGS's optimum of each depth, width and rate of which theory says something: one hidden layer,
    where `single_layer_objective` is what the solver for single hidden layers finds, or a closed form of rank 1.

    `singular_value_error` is ‖σ − a‖/‖a‖ against the closed form's a.
    """
    import torch

    from repro.dropout import Bernoulli
    from repro.theory import shrink_singular_values
    from repro.training import solver

    keys = ["depth", "width", "retain"]
    known = table[(table.depth == 2) | (table.closed_form_rank == 1)]
    rows = []
    settings = known[[*keys, "penalty"]].drop_duplicates()
    with progress.phase("L-BFGS", total=len(settings)) as bar:
        for depth, width, retain, penalty in settings.itertuples(index=False):
            best = _optimum(spectrum, (width,) * (depth - 1), retain, starts)
            shrunk = shrink_singular_values(spectrum, 1, penalty)
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


def _optimum(spectrum: "Tensor", widths: tuple[int, ...], retain: float, starts: int) -> "DeepSolution":
    """The best of several starts, without the part of ‖Y‖² that no network can fit."""
    from repro.training.deep_linear import solve

    found = [solve(spectrum, 0.0, widths, retain, seed) for seed in range(starts)]
    return min(found, key=lambda solution: solution.objective)


def _rank(values: "Tensor") -> int:
    return int((values > COUNTED * values[0]).sum())


def _collapse_rates(
    spectrum: "Tensor", unreachable: float, table: pd.DataFrame, options: Options, progress: Progress
) -> pd.DataFrame:
    """For each depth and width the θ up to which theory says that the optimum has rank 1, `predicted`, and the largest
    θ at which L-BFGS finds rank 1, `measured`, with the next one tried, `above`, at which it does not; NaN where the
    change lies outside of `BRACKET`."""
    from repro.theory import critical_retain

    settings = table[["depth", "width"]].drop_duplicates()
    rows = []
    with progress.phase("rate of collapse", total=len(settings)) as bar:
        for depth, width in settings.itertuples(index=False):
            widths = (width,) * (depth - 1)
            predicted = critical_retain(spectrum, widths)

            def collapsed(rate: float, widths: tuple[int, ...] = widths) -> bool:
                return _rank(_optimum(spectrum, widths, 1 / (1 + rate), options.starts).singular_values) == 1

            low = high = np.nan
            if 0 < predicted < 1:
                low, high = (share * (1 - predicted) / predicted for share in BRACKET)  # of λ, which falls with θ
                if collapsed(low) or not collapsed(high):
                    low = high = np.nan
            for _ in range(options.halvings if low < high else 0):
                middle = (low * high) ** 0.5
                low, high = (low, middle) if collapsed(middle) else (middle, high)
            rows.append((depth, width, predicted, 1 / (1 + high), 1 / (1 + low)))
            bar.advance(1)
    return pd.DataFrame(rows, columns=COLLAPSE)


def _theory_curves(spectrum: "Tensor", table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Rank and effective rank of the lower bound's minimiser over θ, one row for each depth and width of the table."""
    from repro.theory import induced_penalty

    margin = 0.3 * table.retain.min()
    rates = np.linspace(margin, min(0.99, table.retain.max() + 0.05), CURVE_POINTS)
    ranks, effective = [], []
    for depth, width in table[["depth", "width"]].drop_duplicates().itertuples(index=False):
        penalties = pd.Series([induced_penalty((width,) * (depth - 1), float(theta)) for theta in rates])
        found = _theory(spectrum, 0.0, penalties)[0]
        ranks.append(found.closed_form_rank)
        effective.append(found.closed_form_effective_rank)
    return {"curve_retain": rates, "curve_rank": np.stack(ranks), "curve_effective_rank": np.stack(effective)}


def _single_layer_difference(table: pd.DataFrame) -> "pd.Series[float]":
    """Of the optima that the solvers for deep and for single hidden layers find at depth 2, relative."""
    return (table.solver_objective / table.single_layer_objective - 1).abs().dropna()


def _headline(table: pd.DataFrame, collapse: pd.DataFrame) -> dict[str, float]:
    certain = table.retain <= table.critical_retain
    sharp = collapse[collapse.depth == 2]
    return {
        "largest gap of L-BFGS to the rank-1 closed form": float(table.solver_gap[certain].abs().max()),
        "largest difference to single-hidden-layer theory": float(_single_layer_difference(table).max()),
        "median gap of SGD to the rank-1 closed form": float(table.relative_gap[certain].median()),
        "smallest gap of SGD to the lower bound": float(table.relative_gap.min()),
        "largest effective rank of SGD where rank 1 is certain": float(table.effective_rank[certain].max()),
        "error of the rate of collapse with one hidden layer": float(
            (sharp.measured / sharp.predicted - 1).abs().max()
        ),
        "smallest ratio of measured to predicted rate of collapse": float(
            (collapse.measured / collapse.predicted).min()
        ),
        "diverged cells": float(table.diverged.sum()),
    }


# ---------------------------------------------------------------------- claims


def _certain(record: Record) -> pd.DataFrame:
    """The cells of which theory says that their optimum has rank 1."""
    cells = record.cells
    return cells[cells.retain <= cells.critical_retain]


def _rank_one_error(record: Record) -> pd.Series:
    cells = _certain(record)
    return np.maximum(cells.solver_gap.abs(), cells.singular_value_error).groupby(cells.seed).max()


def _certain_rank(record: Record) -> pd.Series:
    cells = _certain(record)
    return cells.effective_rank.groupby(cells.seed).max()


def _depth_two(record: Record) -> pd.Series:
    cells = record.cells[record.cells.depth == 2]
    return _single_layer_difference(cells).groupby(cells.seed).max()


def _for_every_seed(record: Record, value: float) -> pd.Series:
    """A number that no seed of SGD has a part in."""
    return pd.Series(value, index=record.config["seed"])


def _sharp_rate(record: Record) -> pd.Series:
    """By how much the predicted θ lies outside of the measured bracket, relative; negative inside."""
    depth, predicted, measured, above = (
        record.arrays[f"collapse_{name}"] for name in ("depth", "predicted", "measured", "above")
    )
    outside = np.maximum(measured / predicted - 1, predicted / above - 1)[depth == 2]
    return _for_every_seed(record, outside.max()) if len(outside) else pd.Series(dtype=float)


def _certain_rate(record: Record) -> pd.Series:
    """The smallest above / predicted of the deeper networks."""
    depth, predicted, above = (record.arrays[f"collapse_{name}"] for name in ("depth", "predicted", "above"))
    ratio = (above / predicted)[depth > 2]
    return _for_every_seed(record, ratio.min()) if len(ratio) else pd.Series(dtype=float)


SOURCE = "Mianjy and Arora (2019); paper section 6"

CLAIMS = (
    Claim(
        id="rank_one_closed_form",
        statement="Where dropout is strong enough, the global optimum is the closed form of rank 1, at any depth.",
        source=SOURCE,
        quantity="largest relative error of L-BFGS's objective and singular values",
        low=-inf,
        high=1e-8,
        because="L-BFGS runs to machine precision; singular values know the root of what the objective knows",
        measure=_rank_one_error,
        figure="collapse",
    ),
    Claim(
        id="collapse_is_certain",
        statement="Training with that much dropout collapses to rank 1.",
        source=SOURCE,
        quantity="largest effective rank that SGD reaches at a rate at which theory says rank 1",
        low=-inf,
        high=1.05,
        because="SGD keeps a little noise in directions that have died; two that live have an effective rank above 1.2",
        measure=_certain_rank,
        scales=("cpu", "gpu"),
        figure="collapse",
    ),
    Claim(
        id="collapse_rate",
        statement="With one hidden layer, rank 1 begins at exactly the predicted rate.",
        source=SOURCE,
        quantity="distance of the predicted θ from the bracket between the largest measured θ of rank 1 and the next "
        "one tried, relative; negative inside",
        low=-inf,
        high=0.005,
        because="a second singular value below a thousandth of the first counts as none: it moves the rate by as much",
        measure=_sharp_rate,
        figure="rate",
    ),
    Claim(
        id="deeper_collapses_sooner",
        statement="Deeper networks have collapsed where theory says that they must, and no later.",
        source=f"{SOURCE}; that they collapse sooner is measured here",
        quantity="smallest measured over predicted θ of collapse of networks with two hidden layers or more",
        low=0.995,
        high=inf,
        because="the theory's rate is sufficient for them, not necessary; tolerance as for one hidden layer",
        measure=_certain_rate,
        figure="rate",
    ),
    Claim(
        id="depth_two",
        statement="One hidden layer is the single-hidden-layer theory, exactly.",
        source=f"{SOURCE}, with section 1",
        quantity="largest relative difference of the minima that the two solvers find",
        low=-inf,
        high=1e-10,
        because="two codes and two random starts on the same problem; nothing but rounding is between them",
        measure=_depth_two,
    ),
)


# ---------------------------------------------------------------------- figures

CAPTIONS = {
    "collapse": "Effective rank of the learned map against the retain probability. Markers, SGD (mean ± one standard "
    "deviation over seeds). Lines, the closed form: solid where it is the optimum (with one hidden layer as long as "
    "its rank is at most d, with more at rank 1, left of the dotted line), dashed where it only bounds the optimum.",
    "rate": "The θ up to which the optimum has rank 1. Lines, what theory guarantees; markers, where L-BFGS finds the "
    "change, which for one hidden layer is the same and for deeper networks comes sooner.",
    "spectra": "Singular values of the learned map. Markers, SGD; lines, the closed form where it is the optimum.",
}
"""What to look for in each figure."""


def figures(record: Record) -> dict[str, "Figure"]:
    return {"collapse": _collapse(record), "rate": _rate(record), "spectra": _spectra(record)}


def _attained(rank: Any, depth: Any, width: Any) -> Any:
    """Whether a network attains the closed form, given its rank: each unit of a single hidden layer must be able to
    carry an equal share of it, for which as many units as its rank are enough; with more layers, only rank 1 is."""
    return rank <= (width if depth == 2 else 1)


def _collapse(record: Record) -> "Figure":
    from matplotlib.lines import Line2D

    from repro import plotting

    cells, arrays = record.cells, record.arrays
    depths, widths = sorted(cells.depth.unique().tolist()), sorted(cells.width.unique().tolist())
    shapes = zip(arrays["collapse_depth"], arrays["collapse_width"], strict=True)
    curve = dict(zip(shapes, zip(arrays["curve_rank"], arrays["curve_effective_rank"], strict=True), strict=True))
    figure, axes = plotting.panels(len(depths), sharey=True)
    for axis, depth in zip(axes, depths, strict=True):
        for color, marker, width in zip(plotting.COLORS, plotting.MARKERS, widths, strict=False):
            mine = cells[(cells.depth == depth) & (cells.width == width)]
            critical = mine.critical_retain.iloc[0]
            rates, (ranks, effective) = arrays["curve_retain"], curve[depth, width]
            known = _attained(ranks, depth, width)
            axis.plot(rates[known], effective[known], color=color)
            axis.plot(rates[~known], effective[~known], color=color, linestyle=(0, (3, 2)), linewidth=0.7)
            axis.axvline(critical, color=color, linestyle=":", linewidth=0.8)
            found = plotting.over_seeds(mine.dropna(subset="effective_rank"), "retain", "effective_rank")
            axis.errorbar(
                found.retain, found["mean"], found["std"], linestyle="none", color=color, marker=marker,
                markerfacecolor="white", elinewidth=0.8,
            )  # fmt: skip
        axis.set(title=f"depth {depth}", xlabel=r"retain probability $\theta$", xlim=(0, 1))
    axes[0].set(ylabel="effective rank", ylim=(0.8, 0.3 + 1.1 * np.nanmax([1.0, *cells.effective_rank])))
    handles = [
        Line2D([], [], color=c, marker=m, linestyle="none", markerfacecolor="white")
        for c, m, _ in zip(plotting.COLORS, plotting.MARKERS, widths, strict=False)
    ]
    handles += [Line2D([], [], color="0.3"), Line2D([], [], color="0.3", linestyle=(0, (3, 2)), linewidth=0.7)]
    handles += [Line2D([], [], color="0.3", linestyle=":", linewidth=0.8)]
    names = [*(f"SGD, $d = {d}$" for d in widths), "closed form", "of the lower bound", "rank 1 is certain left of it"]
    plotting.legend_below(figure, handles, names)
    return figure


def _rate(record: Record) -> "Figure":
    from repro import plotting

    found = pd.DataFrame({name: record.arrays[f"collapse_{name}"] for name in COLLAPSE}).sort_values("width")
    figure, (axis,) = plotting.panels(1)
    for color, marker, (depth, rows) in zip(plotting.COLORS, plotting.MARKERS, found.groupby("depth"), strict=False):
        middle = np.sqrt(rows.measured * rows.above)
        axis.plot(rows.width, rows.predicted, color=color, marker="" if len(rows) > 1 else "_", markersize=12)
        axis.errorbar(
            rows.width, middle, [middle - rows.measured, rows.above - middle], linestyle="none", color=color,
            marker=marker, markerfacecolor="white", elinewidth=0.8, label=f"depth {depth}",
        )  # fmt: skip
    axis.set(xscale="log", xlabel="width $d$", ylabel=r"largest $\theta$ of rank 1", ylim=(0, None))
    axis.set_xticks(sorted(found.width.unique()))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.legend()
    return figure


def _spectra(record: Record) -> "Figure":
    """At the middle width, three rates of the grid."""
    from matplotlib.lines import Line2D

    from repro import plotting

    cells, arrays = record.cells, record.arrays
    depths, widths, rates = (sorted(cells[name].unique().tolist()) for name in ("depth", "width", "retain"))
    width = widths[len(widths) // 2]
    chosen = sorted({rates[round(i)] for i in np.linspace(0, len(rates) - 1, 3)})
    shown = np.arange(1, min(width, arrays["singular_values"].shape[1], 10) + 1)
    figure, axes = plotting.panels(len(depths), sharey=True)
    for axis, depth in zip(axes, depths, strict=True):
        for color, marker, retain in zip(plotting.COLORS, plotting.MARKERS, chosen, strict=False):
            rows = cells[(cells.depth == depth) & (cells.width == width) & (cells.retain == retain) & ~cells.diverged]
            values = arrays["singular_values"][rows.cell.to_numpy()][:, : len(shown)]
            if rows.empty:
                continue
            if _attained(rows.closed_form_rank.iloc[0], depth, width):
                axis.plot(shown, arrays["closed_form"][rows.cell.iloc[0]][: len(shown)], color=color)
            axis.plot(shown, values.mean(0), linestyle="none", marker=marker, color=color, markerfacecolor="white")
            plotting.band(axis, shown, values.mean(0), values.std(0), color)
        axis.set(title=f"depth {depth}, $d = {width}$", xlabel="index $i$")
    axes[0].set_ylabel(r"$\sigma_i(WX)\ /\ \sigma_1(Y)$")
    handles = [
        Line2D([], [], color=c, marker=m, linestyle="none", markerfacecolor="white")
        for c, m, _ in zip(plotting.COLORS, plotting.MARKERS, chosen, strict=False)
    ]
    names = [*(rf"SGD, $\theta = {theta:g}$" for theta in chosen), "closed form"]
    plotting.legend_below(figure, [*handles, Line2D([], [], color="0.3")], names)
    return figure
