"""What the experiments on deep linear networks share: their configuration, their grid, and SGD on it."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from repro.config import Count, LinearConfig, OneOrMany, Positive, Section
from repro.experiments import linear
from repro.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from repro.training.noise import Cell, Problem


class DeepLinearModel(Section):
    """W_depth ⋯ W_1 X with `width` units in each of the depth − 1 hidden layers; one or several of both."""

    kind: Literal["deep_linear"]
    depth: OneOrMany[Annotated[int, Field(ge=2)]]
    width: OneOrMany[Count]
    init_scale: Positive


class Config(LinearConfig):
    """What the experiments on deep linear networks take: Dropout, of the same rate on every hidden layer."""

    model: DeepLinearModel  # type: ignore[assignment]  # of a kind that other experiments do not take

    @model_validator(mode="after")
    def _blocks_fill_the_width(self) -> "Config":
        if self.dropout.scheme != ("bernoulli",) or self.dropout.block_size != (1,):
            raise ValueError(
                f"dropout.scheme={','.join(self.dropout.scheme)}: deep linear networks take bernoulli alone, "
                "with block_size=1"
            )
        return self


class Group(NamedTuple):
    """The cells of one depth and width, which train as one batch, and their rows of the table."""

    cells: list["Cell"]
    table: pd.DataFrame


def groups(cfg: Config) -> list[Group]:
    """The grid depth × width × rate × seed.

    The tables have `cell`, `depth`, `width`, `retain` (θ), `seed`, and `penalty`, the ν of the bound ν‖WX‖²_*; where
    the configuration gives p, also `p`: θ is then p / (p + width (1 − p)), and ν = p^(1−depth) − 1 for any width.
    """
    from repro.dropout.layered import LayeredDropout
    from repro.theory import induced_penalty, retain_probability
    from repro.training.noise import Cell

    found, number = [], 0
    for depth, width in product(cfg.model.depth, cfg.model.width):
        cells: list[Cell] = []
        rows: list[dict[str, Any]] = []
        for rate, seed in product(cfg.dropout.p or cfg.dropout.retain or (), cfg.seed):
            retain = retain_probability(rate, width, 1) if cfg.dropout.p else rate
            masks = LayeredDropout((width,) * (depth - 1), retain)
            cells.append(Cell(masks, seed))
            row = {"cell": number + len(rows), "depth": depth, "width": width, "retain": retain, "seed": seed}
            rows.append(
                row | {"penalty": induced_penalty(masks.widths, retain)} | ({"p": rate} if cfg.dropout.p else {})
            )
        found.append(Group(cells, pd.DataFrame(rows)))
        number += len(rows)
    return found


def train(
    problem: "Problem", grid: Sequence[Group], cfg: Config, progress: Progress, measure: Callable[..., None]
) -> list[list["Tensor"]]:
    """SGD on one group after another.

    `measure(group, step, *weights)` is called at the logged steps. Returns each group's final weights, in float64 on
    the CPU.
    """
    from repro.training import sweep
    from repro.training.deep_linear import LayerNoise, initial_weights

    plan, trained = linear.schedule(cfg), []
    with progress.phase("SGD", total=plan.steps * len(grid)) as bar:
        for group in grid:
            weights = sweep.train(
                linear.placed(problem, cfg),
                group.cells,
                initial_weights(problem, group.cells, cfg.model.init_scale),
                plan,
                noise=LayerNoise,
                log_at=sweep.log_steps(plan.steps, cfg.training.log_points),
                measure=partial(measure, group),
                advance=bar.advance,
            )
            trained.append([weight.double().cpu() for weight in weights])
    return trained


def alive(weights: Sequence["Tensor"]) -> tuple[list["Tensor"], np.ndarray]:
    """The weights with 0 in place of every network that diverged, and which have not, (cells,)."""
    import torch

    finite = torch.stack([weight.isfinite().all(-1).all(-1) for weight in weights]).all(0)
    return [weight.where(finite[:, None, None], 0.0) for weight in weights], finite.cpu().numpy()
