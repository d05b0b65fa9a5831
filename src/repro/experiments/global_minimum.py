"""E2: does training reach the closed-form global minimum, with balanced blocks, and how wide must the network be?

SGD on the stochastic objective and L-BFGS on the deterministic one, against the minimum over all widths and
factors, min_A ‖Y − A‖² + λ‖A‖²_(r) (spectral r-support norm, λ = (1−p)/p).
"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import BaseModel, PositiveInt

from repro.config import LinearConfig as Config
from repro.config import SyntheticData
from repro.experiments import minimum
from repro.progress import Progress
from repro.records import Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class WidthNeeded(BaseModel, extra="forbid", frozen=True):
    """The small problem on which L-BFGS measures the width that the closed form needs.

    `features` inputs and outputs, a target of rank `rank` from `samples` samples, at each block size every
    multiple of it in `widths` = [smallest, largest], best of `starts` random starts.
    """

    features: PositiveInt = 20
    rank: PositiveInt = 8
    samples: PositiveInt = 200
    p: float = 0.8
    block_sizes: tuple[PositiveInt, ...] = (1, 2, 4)
    widths: tuple[PositiveInt, PositiveInt] = (2, 24)
    starts: PositiveInt = 2


class Options(BaseModel, extra="forbid", frozen=True):
    """`solve`: also minimise every cell's deterministic objective by L-BFGS."""

    solve: bool = True
    width_needed: WidthNeeded = WidthNeeded()


def run(cfg: Config, progress: Progress) -> Result:
    from repro.data.linear import load

    data = load(cfg.data)
    trained = minimum.train_grid(data, cfg, progress)
    cells, found = trained.cells, minimum.headline(trained)
    if cfg.options.solve:
        cells = cells.merge(_solver_gaps(data, cells, progress), on=["block_size", "p"])
        found |= {"largest gap of L-BFGS": float(cells.solver_gap.abs().max())}
    widths = _widths(cfg.options.width_needed, progress)
    longest = max(map(len, trained.block_norms))
    arrays = {
        "singular_values": trained.singular_values,
        "closed_form": trained.closed_form,
        "block_norms": np.stack(
            [np.pad(n, (0, longest - len(n)), constant_values=np.nan) for n in trained.block_norms]
        ),
        **{f"width_needed_{column}": widths[column].to_numpy() for column in widths},
    }
    return Result(cells, trained.curves, arrays, found)


def _solver_gaps(data: "minimum.LinearData", cells: pd.DataFrame, progress: Progress) -> pd.DataFrame:
    """The relative gap of L-BFGS to the closed form, `solver_gap`, for each `block_size` and `p` of `cells`."""
    from repro.dropout import DropBlock
    from repro.theory import target_spectrum
    from repro.training.solver import solve

    spectrum = target_spectrum(data.Y, data.X)
    residual = float(data.Y.square().sum() - spectrum.square().sum())
    configurations = cells.drop_duplicates(["block_size", "p"])
    gaps = []
    with progress.phase("L-BFGS", total=len(configurations)) as bar:
        for row in configurations.itertuples():
            solution = solve(spectrum, residual, DropBlock(row.width, row.block_size, row.retain), row.seed)
            gaps.append(solution.objective / row.closed_form - 1)
            bar.advance(1)
    return configurations[["block_size", "p"]].assign(solver_gap=gaps)


def _widths(options: WidthNeeded, progress: Progress) -> pd.DataFrame:
    """The smallest relative gap over random starts for each block size and width: `block_size`, `width`, `gap`."""
    from repro.data.linear import load
    from repro.dropout import DropBlock
    from repro.theory import retain_probability, target_spectrum
    from repro.training.solver import solve

    config = SyntheticData(
        kind="synthetic", in_features=options.features, out_features=options.features, samples=options.samples,
        rank=options.rank, noise=0.0, correlation=0.0, whiten=False, seed=0,
    )  # fmt: skip
    data = load(config)
    spectrum = target_spectrum(data.Y, data.X)
    residual = float(data.Y.square().sum() - spectrum.square().sum())
    smallest, largest = options.widths
    grid = [(r, d) for r in options.block_sizes for d in range(r, largest + 1, r) if d >= smallest]
    p, rows = options.p, []
    with progress.phase("width needed", total=len(grid)) as bar:
        for r, d in grid:
            reference = minimum.closed_forms(data, pd.DataFrame({"block_size": [r], "p": [p]})).closed_form[0]
            masks = DropBlock(d, r, retain_probability(p, d, r))
            best = min(solve(spectrum, residual, masks, seed).objective for seed in range(options.starts))
            rows.append({"block_size": r, "width": d, "gap": best / reference - 1})
            bar.advance(1)
    return pd.DataFrame(rows)


def figures(record: Record) -> dict[str, "Figure"]:
    return {
        "gap": _along_training(record, "relative_gap", "relative gap to closed form"),
        "singular_values": _spectra(record),
        "balance": _along_training(record, "imbalance", r"std $/$ mean of $\|U_iV_i^\top X\|_F$"),
        "width_needed": _width_figure(record),
    }


def _along_training(record: Record, column: str, label: str) -> "Figure":
    """`column` along SGD, a panel a block size, mean and band over seeds."""
    from repro import plotting

    curves = record.table("curves")
    curves = curves[~curves.diverged & (curves.step > 0)]
    # Of all cells: a panel stays, and a colour keeps its p, where every cell diverged.
    sizes, rates = sorted(record.cells.block_size.unique()), sorted(record.cells.p.unique())
    figure, axes = plotting.panels(len(sizes), sharey=True)
    for axis, size in zip(axes, sizes, strict=True):
        axis.set(xscale="log", yscale="log", title=f"$r = {size}$", xlabel="SGD step")
        for color, marker, p in zip(plotting.COLORS, plotting.MARKERS, rates, strict=False):
            rows = plotting.over_seeds(curves[(curves.block_size == size) & (curves.p == p)], "step", column)
            axis.plot(rows.step, rows["mean"], color=color, marker=marker, markersize=2.2, linewidth=0.7)
            plotting.band(axis, rows.step, rows["mean"], rows["std"], color)
    axes[0].set_ylabel(label)
    plotting.legend_below(figure, axes[0].get_lines(), [f"$p = {p:g}$" for p in rates])
    return figure


def _spectra(record: Record) -> "Figure":
    from repro import plotting
    from repro.experiments.linear_figures import spectrum

    cells = record.cells
    sizes = sorted(cells.block_size.unique())
    rates = sorted(cells.p.unique())
    figure, axes = plotting.panels(len(sizes), sharey=True)
    for axis, size in zip(axes, sizes, strict=True):
        handles = spectrum(axis, record, cells[cells.block_size == size], "p", rates)
        axis.set(title=f"$r = {size}$", xlabel="index $i$")
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel(r"$\sigma_i(UV^\top X)\ /\ \sigma_1(Y)$")
    plotting.legend_below(figure, handles, [*(f"$p = {p:g}$" for p in rates), "closed form", "SGD"], columns=8)
    return figure


def _width_figure(record: Record) -> "Figure":
    from repro import plotting

    arrays = record.arrays
    figure, (axis,) = plotting.panels(1)
    floor = 1e-15  # relative gaps of this size are rounding
    for color, marker, r in zip(
        plotting.COLORS, plotting.MARKERS, np.unique(arrays["width_needed_block_size"]), strict=False
    ):
        mine = arrays["width_needed_block_size"] == r
        gap = np.maximum(np.abs(arrays["width_needed_gap"][mine]), floor)
        axis.plot(
            arrays["width_needed_width"][mine],
            gap,
            color=color,
            marker=marker,
            linewidth=0.8,
            label=f"$r = {r}$",
        )
    axis.axhspan(floor / 10, 1e-10, color="0.92", zorder=0)
    axis.set(yscale="log", xlabel="width $d$", ylabel="relative gap of L-BFGS")
    axis.text(
        0.98, 1e-11, "closed form reached", ha="right", transform=axis.get_yaxis_transform(), color="0.35", fontsize=7
    )
    axis.legend()
    return figure
