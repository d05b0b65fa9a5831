"""Measures the regulariser along SGD, under reparametrisation, and against its bound on random networks."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro import theory
from repro.data.linear import load
from repro.papers.deep_linear_dropout import sgd
from repro.papers.deep_linear_dropout.deep_linear_regularizer import Config
from repro.papers.deep_linear_dropout.sgd import Group
from repro.papers.expectation import agreement
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress
from repro.training.monte_carlo import monte_carlo
from repro.training.sweep.deep_linear import LayerNoise, root_of, singular_values
from repro.training.sweep.noise import Problem

# Masks of each network that decide how many the measurement proper, with masks of its own, averages over.
PILOT = 4096
# A retain probability at which nothing is dropped, as near to 1 as one can be below it.
NEVER = 1 - 2.0**-53


def run(config: Config, progress: Progress) -> Result:
    problem = Problem.from_data(*load(config.data))
    exact_problem = problem.to(config.device, problem.gram.dtype)
    root = root_of(exact_problem.gram)
    grid = sgd.groups(config)
    generators = {cell: cell.generator("measurement", config.device) for group in grid for cell in group.cells}
    curves: list[pd.DataFrame] = []

    def measure(group: Group, step: int, *found: Tensor) -> None:
        weights, alive = sgd.alive(found)
        noise = LayerNoise(exact_problem, group.cells)
        retain = group.retain(config.device)
        exact = theory.deep_dropout_regularizer(weights, root, retain)
        sample = partial(noise.sampled_regularizer, weights, [generators[cell] for cell in group.cells])
        masks = _masks_needed(sample(PILOT), config.options.standard_error)
        mean, error, again = monte_carlo(sample, exact, masks)
        columns = {
            "deterministic": exact,
            "fit": 0 * exact,  # R is the penalty alone
            "monte_carlo": mean,
            "standard_error": error,
            "remeasured": again,
            "layer_by_layer": _layer_by_layer(weights, root, retain),
            "bound": theory.regularizer_bound(weights, root, retain),
            "objective": noise.objective(*weights),
            "effective_rank": theory.effective_rank(singular_values(weights, root)),
        }
        rows = pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})
        curves.append(rows[alive].assign(cell=group.table.cell[alive], step=step, masks=masks))
        progress.log(curves[-1].to_dict("records"))

    trained = sgd.train(problem, grid, config, progress, measure)
    table = pd.concat([_reparametrised(*item, root.cpu()) for item in zip(grid, trained, strict=True)])
    curve = pd.concat(curves, ignore_index=True)
    final = ["deterministic", "bound", "objective", "effective_rank"]
    table = table.merge(curve[curve.step == config.training.steps][["cell", *final]], on="cell", how="left")
    table["diverged"] = table.deterministic.isna()
    tried = -(-config.options.random_networks // len(grid))
    arrays = {
        "random_ratio": np.stack([_random_ratios(group, root.cpu(), tried) for group in grid]),
        "random_depth": np.array([group.table.depth[0] for group in grid]),
    }
    return Result(table, curve, arrays, _headline(table, curve, arrays))


def _masks_needed(pilot: Tensor, standard_error: float) -> int:
    """How many masks bring the relative standard error of every cell down to that, judged by a first few of each."""
    relative = (pilot.std(-1) / pilot.mean(-1)).nan_to_num(0)
    return max(PILOT, math.ceil(float(relative.max() / standard_error) ** 2))


def _layer_by_layer(weights: list[Tensor], root: Tensor, retain: Tensor) -> Tensor:
    """The sum of what dropout on one layer at a time would penalise: without the terms of several layers."""
    layers = range(len(weights) - 1)
    alone = [[retain if i == j else NEVER for j in layers] for i in layers]
    return sum((theory.deep_dropout_regularizer(weights, root, one) for one in alone), start=0 * retain)


def _reparametrised(group: Group, trained: list[Tensor], root: Tensor) -> pd.DataFrame:
    """The group's table with the relative change of R when the hidden units change and WX does not.

    `rescaled`: each unit's input by a factor of its own and its output by the inverse, which R does not see.
    `mixed`: the units of each layer rotated among each other, which it does: the control.
    """
    weights, _ = sgd.alive(trained)
    scaled, mixed = list(weights), list(weights)
    retain = group.retain()
    generators = [cell.generator("reparametrisation") for cell in group.cells]

    def normal(*shape: int) -> Tensor:
        return torch.stack([torch.randn(*shape, generator=g, dtype=torch.float64) for g in generators])

    for i, weight in enumerate(weights[:-1]):
        width = weight.shape[1]
        factors = normal(width, 1).exp()
        scaled[i], scaled[i + 1] = factors * scaled[i], scaled[i + 1] / factors.mT
        rotation = torch.linalg.qr(normal(width, width))[0]
        mixed[i], mixed[i + 1] = rotation @ mixed[i], mixed[i + 1] @ rotation.mT
    before = theory.deep_dropout_regularizer(weights, root, retain)
    changes = {
        name: (theory.deep_dropout_regularizer(changed, root, retain) / before - 1).numpy()
        for name, changed in (("rescaled", scaled), ("mixed", mixed))
    }
    return group.table.assign(**changes)


def _random_ratios(group: Group, root: Tensor, count: int) -> np.ndarray:
    """R / (ν‖WX‖²_*) of `count` random networks of the group's widths at rates between 0.05 and 0.95.

    A network is one of rank 1 whose units are all alike, where the bound is attained, plus normal weights of a size
    drawn between a thousandth and ten times that.
    """
    first = group.table.iloc[0]
    generator = group.cells[0].generator("random networks")
    sizes = [len(root), *[int(first.width)] * (int(first.depth) - 1), len(root)]
    share = 10 ** (4 * torch.rand(count, 1, 1, generator=generator, dtype=torch.float64) - 3)
    retain = 0.05 + 0.9 * torch.rand(count, generator=generator, dtype=torch.float64)
    weights = [
        1 / columns + share * torch.randn(count, rows, columns, generator=generator, dtype=torch.float64) / columns**0.5
        for columns, rows in pairwise(sizes)
    ]
    exact, bound = (
        theory.deep_dropout_regularizer(weights, root, retain),
        theory.regularizer_bound(weights, root, retain),
    )
    return (exact / bound).numpy()


def _headline(table: pd.DataFrame, curves: pd.DataFrame, arrays: dict[str, np.ndarray]) -> dict[str, float]:
    return agreement(curves) | {
        "largest relative change by rescaling units": float(table.rescaled.abs().max()),
        "median relative change by mixing units": float(table.mixed.abs().median()),
        "random networks": float(arrays["random_ratio"].size),
        "smallest ratio to the bound on random networks": float(arrays["random_ratio"].min()),
        "smallest ratio to the bound along training": float((curves.deterministic / curves.bound).min()),
        "median ratio to the bound after training": float((table.deterministic / table.bound).median()),
        "diverged cells": float(table.diverged.sum()),
    }
