"""What the experiments on deep linear networks share: their grid, and SGD on it."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from repro import theory
from repro.dropout.layered import LayeredDropout
from repro.papers.deep_linear_dropout.settings import Config
from repro.pipeline.system import threads
from repro.pipeline.system.progress import Progress
from repro.training.sweep import engine
from repro.training.sweep.deep_linear import LayerNoise, initial_weights
from repro.training.sweep.noise import Cell, Problem


class Group(NamedTuple):
    """The cells of one depth and width, which train as one batch, and their rows of the table."""

    cells: list[Cell]
    table: pd.DataFrame

    def retain(self, device: str = "cpu") -> Float[Tensor, " cells"]:
        """θ of each cell."""
        return torch.tensor(self.table.retain.to_numpy(), device=device)


def groups(config: Config) -> list[Group]:
    """The grid depth × width × rate × seed.

    The tables have `cell`, `depth`, `width`, `retain` (θ), `seed`, and `penalty`, the ν of the bound ν‖WX‖²_*; where
    the configuration gives p, also `p`: θ is then p / (p + width (1 − p)), and ν = p^(1−depth) − 1 for any width.
    """
    found, number = [], 0
    by_p = config.dropout.p is not None
    for depth, width in product(config.model.depth, config.model.width):
        cells: list[Cell] = []
        rows: list[dict[str, float]] = []
        for rate, seed in product(config.dropout.rates(), config.seed):
            retain = theory.retain_probability(rate, width, 1) if by_p else rate
            masks = LayeredDropout((width,) * (depth - 1), retain)
            cells.append(Cell(masks, seed))
            row = {"cell": number + len(rows), "depth": depth, "width": width, "retain": retain, "seed": seed}
            rows.append(
                row | {"penalty": float(theory.induced_penalty(masks.widths, retain))} | ({"p": rate} if by_p else {})
            )
        found.append(Group(cells, pd.DataFrame(rows)))
        number += len(rows)
    return found


def train(
    problem: Problem, grid: Sequence[Group], config: Config, progress: Progress, measure: Callable[..., None]
) -> list[list[Float[Tensor, "cells _ _"]]]:
    """SGD on one group after another.

    `measure(group, step, *weights)` is called at the logged steps. Returns each group's final weights, in float64 on
    the CPU.
    """
    plan, trained = engine.Schedule.of(config.training), []
    cells = pd.concat([group.table for group in grid]).to_dict("records")
    with progress.watched(cells), progress.phase("SGD", total=plan.steps * len(grid)) as bar:
        for group in grid:
            weights = engine.train(
                problem.placed(config.device, config.training.dtype),
                group.cells,
                initial_weights(problem, group.cells, config.model.init_scale),
                plan,
                noise=LayerNoise,
                log_at=engine.log_steps(plan.steps, config.training.log_points),
                measure=partial(measure, group),
                advance=bar.advance,
                threads=threads.available(config.threads),
            )
            trained.append([weight.double().cpu() for weight in weights])
    return trained


def alive(
    weights: Sequence[Float[Tensor, "cells _ _"]],
) -> tuple[list[Float[Tensor, "cells _ _"]], Bool[np.ndarray, " cells"]]:
    """The weights with 0 in place of every network that diverged, and which have not."""
    finite = torch.stack([weight.isfinite().all(-1).all(-1) for weight in weights]).all(0)
    return [weight.where(finite[:, None, None], 0.0) for weight in weights], finite.cpu().numpy()
