"""What does dropout on every hidden layer of a deep linear network penalise?

E‖W_{L+1}D_L⋯D_1W_1X − WX‖² = R, a recursion over the layers, measured on the iterates of SGD; R does not change when a
unit's input is scaled and its output scaled back; and R ≥ ν‖WX‖²_* with ν = Π_i(1 + λ_i/d_i) − 1, on random networks
and along training.
"""

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, PositiveInt

from repro.claims import Claim
from repro.config import Probability
from repro.experiments import deep_linear, linear
from repro.experiments.deep_linear import Config, Group
from repro.progress import Progress
from repro.records import Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

# Masks of each network that decide how many the measurement proper, with masks of its own, averages over.
PILOT = 4096
# A retain probability at which nothing is dropped, as near to 1 as one can be below it.
NEVER = 1 - 2.0**-53


class Options(BaseModel, extra="forbid", frozen=True):
    """`standard_error`: of a Monte-Carlo mean, relative to it; decides how many masks a measurement averages over.
    `random_networks`: at least so many networks of the grid's depths and widths on which the bound is tried."""

    standard_error: Probability = 0.008
    random_networks: PositiveInt = 10000


def run(cfg: Config, progress: Progress) -> Result:
    import torch

    from repro.data.linear import load
    from repro.theory import deep_dropout_regularizer, effective_rank, regularizer_bound
    from repro.training.deep_linear import LayerNoise, root_of, singular_values
    from repro.training.noise import Problem

    problem = Problem.from_data(*load(cfg.data))
    exact_problem = problem.to(cfg.device, problem.gram.dtype)
    root = root_of(exact_problem.gram)
    grid = deep_linear.groups(cfg)
    generators = {cell: cell.generator("measurement", cfg.device) for group in grid for cell in group.cells}
    curves: list[pd.DataFrame] = []

    def measure(group: Group, step: int, *found: "Tensor") -> None:
        weights, alive = deep_linear.alive(found)
        noise = LayerNoise(exact_problem, group.cells)
        retain = torch.tensor(group.table.retain.to_numpy(), device=cfg.device)
        exact = deep_dropout_regularizer(weights, root, retain)
        sample = partial(noise.sampled_regularizer, weights, [generators[cell] for cell in group.cells])
        masks = _masks_needed(sample(PILOT), cfg.options.standard_error)
        mean, error, again = linear.monte_carlo(sample, exact, masks)
        columns = {
            "deterministic": exact,
            "monte_carlo": mean,
            "standard_error": error,
            "remeasured": again,
            "layer_by_layer": _layer_by_layer(weights, root, retain),
            "bound": regularizer_bound(weights, root, retain),
            "objective": noise.objective(*weights),
            "effective_rank": effective_rank(singular_values(weights, root)),
        }
        rows = pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})
        curves.append(rows[alive].assign(cell=group.table.cell[alive], step=step, masks=masks))

    trained = deep_linear.train(problem, grid, cfg, progress, measure)
    table = pd.concat([_reparametrised(*item, root.cpu()) for item in zip(grid, trained, strict=True)])
    curve = pd.concat(curves, ignore_index=True)
    final = ["deterministic", "bound", "objective", "effective_rank"]
    table = table.merge(curve[curve.step == cfg.training.steps][["cell", *final]], on="cell", how="left")
    table["diverged"] = table.deterministic.isna()
    tried = -(-cfg.options.random_networks // len(grid))
    arrays = {
        "random_ratio": np.stack([_random_ratios(group, root.cpu(), tried) for group in grid]),
        "random_depth": np.array([group.table.depth[0] for group in grid]),
    }
    return Result(table, curve, arrays, _headline(table, curve, arrays))


def _masks_needed(pilot: "Tensor", standard_error: float) -> int:
    """How many masks bring the relative standard error of every cell down to that, judged by a first few of each."""
    relative = (pilot.std(-1) / pilot.mean(-1)).nan_to_num(0)
    return max(PILOT, math.ceil(float(relative.max() / standard_error) ** 2))


def _layer_by_layer(weights: "list[Tensor]", root: "Tensor", retain: "Tensor") -> "Tensor":
    """The sum of what dropout on one layer at a time would penalise: without the terms of several layers."""
    from repro.theory import deep_dropout_regularizer

    layers = range(len(weights) - 1)
    alone = [[retain if i == j else NEVER for j in layers] for i in layers]
    return sum((deep_dropout_regularizer(weights, root, one) for one in alone), start=0 * retain)


def _reparametrised(group: Group, trained: "list[Tensor]", root: "Tensor") -> pd.DataFrame:
    """The group's table with the relative change of R when the hidden units change and WX does not.

    `rescaled`: each unit's input by a factor of its own and its output by the inverse, which R does not see.
    `mixed`: the units of each layer rotated among each other, which it does: the control.
    """
    import torch

    from repro.theory import deep_dropout_regularizer

    weights, _ = deep_linear.alive(trained)
    scaled, mixed = list(weights), list(weights)
    retain = torch.tensor(group.table.retain.to_numpy())
    generators = [cell.generator("reparametrisation") for cell in group.cells]

    def normal(*shape: int) -> "Tensor":
        return torch.stack([torch.randn(*shape, generator=g, dtype=torch.float64) for g in generators])

    for i, weight in enumerate(weights[:-1]):
        width = weight.shape[1]
        factors = normal(width, 1).exp()
        scaled[i], scaled[i + 1] = factors * scaled[i], scaled[i + 1] / factors.mT
        rotation = torch.linalg.qr(normal(width, width))[0]
        mixed[i], mixed[i + 1] = rotation @ mixed[i], mixed[i + 1] @ rotation.mT
    before = deep_dropout_regularizer(weights, root, retain)
    changes = {
        name: (deep_dropout_regularizer(changed, root, retain) / before - 1).numpy()
        for name, changed in (("rescaled", scaled), ("mixed", mixed))
    }
    return group.table.assign(**changes)


def _random_ratios(group: Group, root: "Tensor", count: int) -> np.ndarray:
    """R / (ν‖WX‖²_*) of `count` random networks of the group's widths at rates between 0.05 and 0.95.

    A network is one of rank 1 whose units are all alike, where the bound is attained, plus normal weights of a size
    drawn between a thousandth and ten times that.
    """
    import torch

    from repro.theory import deep_dropout_regularizer, regularizer_bound

    first = group.table.iloc[0]
    generator = group.cells[0].generator("random networks")
    sizes = [len(root), *[int(first.width)] * (int(first.depth) - 1), len(root)]
    share = 10 ** (4 * torch.rand(count, 1, 1, generator=generator, dtype=torch.float64) - 3)
    retain = 0.05 + 0.9 * torch.rand(count, generator=generator, dtype=torch.float64)
    weights = [
        1 / columns + share * torch.randn(count, rows, columns, generator=generator, dtype=torch.float64) / columns**0.5
        for columns, rows in pairwise(sizes)
    ]
    return (deep_dropout_regularizer(weights, root, retain) / regularizer_bound(weights, root, retain)).numpy()


def _headline(table: pd.DataFrame, curves: pd.DataFrame, arrays: dict[str, np.ndarray]) -> dict[str, float]:
    return linear.agreement(curves) | {
        "largest relative change by rescaling units": float(table.rescaled.abs().max()),
        "median relative change by mixing units": float(table.mixed.abs().median()),
        "random networks": float(arrays["random_ratio"].size),
        "smallest ratio to the bound on random networks": float(arrays["random_ratio"].min()),
        "smallest ratio to the bound along training": float((curves.deterministic / curves.bound).min()),
        "median ratio to the bound after training": float((table.deterministic / table.bound).median()),
        "diverged cells": float(table.diverged.sum()),
    }


# ---------------------------------------------------------------------- claims


def _rescaling(record: Record) -> pd.Series:
    cells = record.cells
    return cells.rescaled.abs().groupby(cells.seed).max()


def _smallest_ratio(record: Record) -> pd.Series:
    rows = record.table("curves")
    along = (rows.deterministic / rows.bound).groupby(rows.seed).min()
    return along.clip(upper=float(record.arrays["random_ratio"].min()))


def _attained(record: Record) -> pd.Series:
    cells = record.cells[record.cells.depth == 2]
    return (cells.deterministic / cells.bound).groupby(cells.seed).min()


SOURCE = "Mianjy and Arora (2019); paper section 6"

CLAIMS = (
    replace(
        linear.stochastic_claim(
            "recursion_is_expectation",
            "What dropout on every layer adds to the loss is, in expectation, a recursion over second moments.",
            SOURCE,
        ),
        quantity="largest distance of a Monte-Carlo mean of ‖ŴX − WX‖² over masked networks Ŵ from R of the same "
        "iterate, in standard errors",
        because="sampling error alone; a standard error above 1 % of R counts as failed, and a value beyond 3 is "
        "measured once more with four times the masks",
        figure="regularizer",
    ),
    Claim(
        id="rescaling",
        statement="The regulariser does not change when weights are rescaled between layers.",
        source=SOURCE,
        quantity="largest relative change of R when every hidden unit is rescaled at random",
        low=-inf,
        high=1e-12,
        because="rounding alone; rotating the units among each other, which leaves WX as it is too, changes R by tens "
        "of per cent",
        measure=_rescaling,
    ),
    Claim(
        id="lower_bound",
        statement="The regulariser is never below ν times the squared nuclear norm of what the network computes.",
        source=SOURCE,
        quantity="smallest R / (ν‖WX‖²_*) over random networks and all iterates",
        low=1 - 1e-12,
        high=inf,
        because="an inequality, up to rounding; random networks include some at which it is nearly an equality",
        measure=_smallest_ratio,
        figure="bound",
    ),
    Claim(
        id="bound_is_attained",
        statement="With one hidden layer training brings the regulariser down to ν times the squared nuclear norm.",
        source=SOURCE,
        quantity="smallest R / (ν‖WX‖²_*) of a trained network with one hidden layer",
        low=-inf,
        high=1.02,
        because="closing the gap is the last thing that training does, and takes longest where the penalty is small; "
        "another norm of the singular values would leave a gap of tens of per cent",
        measure=_attained,
        scales=("cpu", "gpu"),
        figure="bound",
    ),
)


# ---------------------------------------------------------------------- figures

CAPTIONS = {
    "regularizer": "The regulariser R along SGD. Markers, the mean of ‖ŴX − WX‖² over masked networks Ŵ, lie on the "
    "lines, the recursion on the same iterates.",
    "standard_errors": "Distance between the two in standard errors: within the grey band of ±3. Grey points are the "
    "control, the same measurements against the sum of what dropout on one layer at a time would cost, which is the "
    "same for one hidden layer alone.",
    "bound": "How far R lies above its lower bound ν‖WX‖²_*. Left: SGD's iterates, the last "
    "filled; with one hidden layer training "
    "closes the gap at any rank, with more only where the rank falls to 1. Right: random networks, none below.",
}
"""What to look for in each figure."""


def figures(record: Record) -> dict[str, "Figure"]:
    curves = record.table("curves")
    return {
        "regularizer": _along_training(curves),
        "standard_errors": _distances(curves),
        "bound": _bound(record, curves),
    }


def _handles(curves: pd.DataFrame) -> tuple[list[Any], list[str]]:
    """Of the widths, by colour, and the rates, by marker."""
    from matplotlib.lines import Line2D

    from repro import plotting

    widths, rates = sorted(curves.width.unique()), sorted(curves.retain.unique())
    handles = [Line2D([], [], color=color) for color, _ in zip(plotting.COLORS, widths, strict=False)]
    handles += [
        Line2D([], [], color="0.3", marker=marker, linestyle="none", markerfacecolor="white")
        for marker, _ in zip(plotting.MARKERS, rates, strict=False)
    ]
    return handles, [*(f"$d = {d}$" for d in widths), *(rf"$\theta = {theta:g}$" for theta in rates)]


def _styles(curves: pd.DataFrame) -> list[tuple[Any, str, str]]:
    """(which rows, colour, marker) of every width and rate."""
    from repro import plotting

    return [
        ((curves.width == width) & (curves.retain == theta), color, marker)
        for color, width in zip(plotting.COLORS, sorted(curves.width.unique()), strict=False)
        for marker, theta in zip(plotting.MARKERS, sorted(curves.retain.unique()), strict=False)
    ]


def _along_training(curves: pd.DataFrame) -> "Figure":
    from repro import plotting

    depths = sorted(curves.depth.unique())
    figure, axes = plotting.panels(len(depths), sharey=True)
    for axis, depth in zip(axes, depths, strict=True):
        for chosen, color, marker in _styles(curves):
            rows = curves[chosen & (curves.depth == depth)]
            exact = plotting.over_seeds(rows, "step", "deterministic")
            sampled = plotting.over_seeds(rows, "step", "monte_carlo")
            axis.plot(exact.step + 1, exact["mean"], color=color)
            plotting.band(axis, exact.step + 1, exact["mean"], exact["std"], color)
            axis.plot(
                sampled.step + 1, sampled["mean"], linestyle="none", marker=marker, color=color, markerfacecolor="white"
            )
        axis.set(title=f"depth {depth}", xscale="log", yscale="log", xlabel="step + 1")
    axes[0].set_ylabel(r"$R\ /\ \|Y\|_2^2$")
    plotting.legend_below(figure, *_handles(curves), columns=8)
    return figure


def _distances(curves: pd.DataFrame) -> "Figure":
    from matplotlib.lines import Line2D

    from repro import plotting

    depths = sorted(curves.depth.unique())
    figure, axes = plotting.panels(len(depths), sharey=True)
    for axis, depth in zip(axes, depths, strict=True):
        mine = curves.depth == depth
        wrong = (curves.monte_carlo - curves.layer_by_layer) / curves.standard_error
        axis.plot(curves.step[mine] + 1, wrong[mine], linestyle="none", marker=".", markersize=2, color="0.7", zorder=1)
        for chosen, color, marker in _styles(curves):
            rows = curves[chosen & mine]
            distance = (rows.monte_carlo - rows.deterministic) / rows.standard_error
            axis.plot(rows.step + 1, distance, linestyle="none", marker=marker, markersize=2.2, color=color, zorder=2)
        axis.axhspan(-3, 3, color="0.92", zorder=0)
        axis.axhline(0, color="0.4", linewidth=0.6)
        axis.set(title=f"depth {depth}", xscale="log", xlabel="step + 1")
        axis.set_yscale("symlog", linthresh=4, linscale=1.5)
        axis.set_yticks([-3, 0, 3, 10, 100, 1000])
        axis.yaxis.set_major_formatter("{x:g}")
    axes[0].set_ylabel("distance / standard error")
    handles, names = _handles(curves)
    control = Line2D([], [], color="0.7", marker=".", linestyle="none")
    plotting.legend_below(figure, [*handles, control], [*names, "control: layer by layer"], columns=8)
    return figure


def _bound(record: Record, curves: pd.DataFrame) -> "Figure":
    from repro import plotting

    floor = 1e-6  # below it a gap is drawn at it
    ratios, depths = record.arrays["random_ratio"], record.arrays["random_depth"]
    figure, (left, right) = plotting.panels(2, height=2.1)
    for color, marker, depth in zip(plotting.COLORS, plotting.MARKERS, np.unique(depths), strict=False):
        mine = curves[(curves.depth == depth) & (curves.step > 0)]
        gap = np.maximum(mine.deterministic / mine.bound - 1, floor)
        last = mine.step == mine.step.max()
        for rows, face in ((~last, "white"), (last, color)):
            left.plot(
                mine.effective_rank[rows], gap[rows], linestyle="none", marker=marker, color=color, markerfacecolor=face
            )
        spread = np.log10(np.maximum(ratios[depths == depth].ravel() - 1, floor))
        right.hist(spread, bins=40, histtype="step", color=color, label=f"depth {depth}")
    left.set(yscale="log", xlabel="effective rank of $WX$", ylabel=r"$R\ /\ \nu\|WX\|_*^2 - 1$")
    right.set(xlabel=r"$\log_{10}(R\ /\ \nu\|WX\|_*^2 - 1)$, random networks", ylabel="networks")
    plotting.legend_below(
        figure,
        left.get_lines()[1::2],
        [f"depth {depth}" for depth in np.unique(depths)],
        columns=len(np.unique(depths)),
    )
    return figure
