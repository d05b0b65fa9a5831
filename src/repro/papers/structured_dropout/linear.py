"""What the linear experiments share: their grid of cells, and the stochastic objective beside its expectation."""

from collections.abc import Sequence
from functools import partial
from math import inf

import pandas as pd
import torch
from torch import Tensor

from repro import theory
from repro.data.linear import LinearData, compact
from repro.dropout import Bernoulli, DropBlock, DropConnect
from repro.dropout.distribution import masks_of
from repro.papers.expectation import SUSPICIOUS
from repro.papers.structured_dropout.settings import LinearConfig
from repro.pipeline.store import Piece, Run
from repro.pipeline.system import threads
from repro.pipeline.system.progress import Progress
from repro.training.monte_carlo import monte_carlo
from repro.training.sweep.engine import Schedule, initial_factors, log_steps, train
from repro.training.sweep.noise import Cell, Problem, noise_of


def grid(config: LinearConfig, data: LinearData) -> tuple[list[Cell], pd.DataFrame]:
    """The cells of `config.dropout` × `config.seed` at the model's width, and their configuration, one row each."""
    dropout, width = config.dropout, config.model.width
    cells: list[Cell] = []
    table: list[dict[str, object]] = []
    for noise, size, rate in dropout.points():
        retain = theory.retain_probability(rate, width, size) if dropout.p else rate
        masks = masks_of(noise, width, size, retain, outputs=len(data.Y), inputs=len(data.X))
        for seed in config.seed:
            cells.append(Cell(masks, seed))
            row = {"scheme": noise.scheme, "block_size": size, "retain": retain, "width": width, "seed": seed}
            table.append(row | ({"p": rate} if dropout.p else {}))
    return cells, pd.DataFrame(table).rename_axis("cell").reset_index()


def by_target(cells: Sequence[Cell]) -> list[list[int]]:
    """The numbers of the cells that mask one target, of each target: what trains as one batch."""
    targets = [cell.masks.target for cell in cells]
    return [[i for i, other in enumerate(targets) if other == target] for target in dict.fromkeys(targets)]


def deterministic_objective(cells: Sequence[Cell], U: Tensor, V: Tensor, data: LinearData) -> Tensor:
    """Theory's deterministic objective of each cell at the factors U (cells, a, d), V (cells, b, d): (cells,).

    NaN for a cell that diverged.
    """
    X, Y = data.X.to(U), data.Y.to(U)
    found = []
    for cell, u, v in zip(cells, U, V, strict=True):
        masks = cell.masks
        if not (u.isfinite().all() and v.isfinite().all()):
            value = u.new_tensor(torch.nan)
        elif type(masks) is DropBlock:
            value = theory.dropblock_objective(u, v, X, Y, masks.block_size, masks.retain)
        elif type(masks) is Bernoulli:
            value = theory.dropblock_objective(u, v, X, Y, 1, masks.retain)
        elif type(masks) is DropConnect:
            value = theory.dropconnect_objective(u, v, X, Y, masks.retain, on=masks.target)
        elif masks.target == "hidden":
            value = theory.expected_objective(u, v, X, Y, masks.mean.to(U), masks.covariance.to(U))
        else:
            value = noise_of(Problem.from_data(X, Y), [cell]).objective(u[None], v[None])[0]
        found.append(value)
    return torch.stack(found)


def stochastic_and_deterministic(
    data: LinearData, cells: Sequence[Cell], config: LinearConfig, progress: Progress, masks: int, title: str
) -> pd.DataFrame:
    """Train every cell twice from one start, by SGD and by deterministic descent, and measure along the way.

    Args:
        data: X and Y in float64.
        cells: the grid.
        config: the experiment's configuration.
        progress: where to report.
        masks: how many masks a Monte-Carlo measurement averages over.
        title: names the phases on the progress bar.

    Returns:
        One row a logged step and cell, with columns

        - `monte_carlo`, `standard_error`: the stochastic objective of SGD's iterate, mean over `masks` masks;
        - `deterministic`: the deterministic objective of the same iterate;
        - `fit`: the part of it that is the data fit ‖Y − UVᵀX‖²;
        - `dropout_objective`: that of Dropout with the same θ, again of the same iterate;
        - `deterministic_training`: the deterministic objective along deterministic descent;
        - `remeasured`: whether the Monte-Carlo value is a second, larger sample (see `monte_carlo`).
    """

    def part(start: int, stop: int) -> Piece:
        groups = [[start + i for i in group] for group in by_target(cells[start:stop])]
        return Piece(
            pd.concat([_both_trainings(data, cells, group, config, progress, masks, title) for group in groups])
        )

    rows = Run(config).parts.each(part, len(cells)).table
    batch = {i: n for n, group in enumerate(by_target(cells)) for i in group}
    rows = rows.assign(batch=rows.cell.map(batch)).sort_values(["batch", "step", "cell"], ignore_index=True)
    return rows.drop(columns="batch")


def _both_trainings(
    data: LinearData,
    all_cells: Sequence[Cell],
    numbers: Sequence[int],
    config: LinearConfig,
    progress: Progress,
    masks: int,
    title: str,
) -> pd.DataFrame:
    """`stochastic_and_deterministic` on the cells of these numbers, which mask one target."""
    cells = [all_cells[number] for number in numbers]
    problem = Problem.from_data(*data)
    data = compact(data)
    X, Y = (matrix.to(config.device) for matrix in data)
    plan = Schedule.of(config.training)
    steps = log_steps(plan.steps, config.training.log_points)
    noise = noise_of(problem.to(config.device, problem.gram.dtype), cells)
    as_dropout = [Cell(Bernoulli(config.model.width, c.masks.retain), c.seed) for c in cells]
    generators = [cell.generator("measurement", config.device) for cell in cells]
    rows: dict[int, pd.DataFrame] = {}

    def measure(step: int, U: Tensor, V: Tensor) -> None:
        expected = deterministic_objective(cells, U, V, data)
        losses = partial(noise.sampled_objective, U, V, generators)
        mean, error, again = monte_carlo(losses, expected, masks, generators, SUSPICIOUS)
        rows[step] = pd.DataFrame(
            {
                "cell": numbers,
                "step": step,
                "monte_carlo": mean.cpu().numpy(),
                "standard_error": error.cpu().numpy(),
                "deterministic": expected.cpu().numpy(),
                "fit": (Y - U @ (V.mT @ X)).square().sum((-2, -1)).cpu().numpy(),
                "dropout_objective": deterministic_objective(as_dropout, U, V, data).cpu().numpy(),
                "remeasured": again.cpu().numpy(),
            }
        )
        progress.log(rows[step].to_dict("records"))

    def measure_descent(step: int, U: Tensor, V: Tensor) -> None:
        rows[step]["deterministic_training"] = deterministic_objective(cells, U, V, data).cpu().numpy()
        progress.log(rows[step][["cell", "step", "deterministic_training"]].to_dict("records"))

    for deterministic, name, look in ((False, "SGD", measure), (True, "deterministic descent", measure_descent)):
        with progress.phase(f"{title}: {name}", total=plan.steps) as bar:
            train(
                problem.placed(config.device, config.training.dtype),
                cells,
                initial_factors(problem, cells, config.model.init_scale),
                plan,
                deterministic=deterministic,
                log_at=steps,
                measure=look,
                advance=bar.advance,
                threads=threads.available(config.threads),
            )
    return pd.concat([rows[step] for step in steps], ignore_index=True)


def mark_diverged(table: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """`table` with the column `diverged`: whether a cell's objectives stopped being finite in either training."""
    last = curves[curves.step == curves.step.max()].set_index("cell")[["deterministic", "deterministic_training"]]
    finite = last[last.abs() < inf].notna().all(axis=1)
    return table.assign(diverged=~table.cell.map(finite).astype(bool))
