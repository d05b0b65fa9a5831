"""What the linear experiments share: their grid of cells, and the stochastic objective beside its expectation."""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd

from repro.config import Config, LinearConfig
from repro.progress import Progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from repro.training.noise import Cell, Problem

# A Monte-Carlo mean this many standard errors from its expectation is measured a second time.
SUSPICIOUS = 3.0
# The second measurement, independent of the first and replacing it whatever it says, averages over this many
# times as many masks: a real discrepancy shows twice as clearly, one of chance (1 point in 370) goes away.
CONFIRMATION = 4


def grid(cfg: Config, rows: int = 0) -> tuple[list["Cell"], pd.DataFrame]:
    """The cells of `cfg.dropout` × `cfg.seed` at the model's width, and their configuration, one row each.

    Args:
        cfg: the experiment's configuration.
        rows: the rows of the factor that DropConnect masks, a or b.
    """
    from repro.theory import retain_probability
    from repro.training.noise import Cell

    dropout, width = cfg.dropout, cfg.model.width
    cells, table = [], []
    for scheme in dropout.scheme:
        sizes = dropout.block_size if "dropblock" in scheme else (1,)
        for size, rate, seed in product(sizes, dropout.p or dropout.retain or (), cfg.seed):
            retain = retain_probability(rate, width, size) if dropout.p else rate
            masks = distribution(scheme, width, size, retain, cfg, rows)
            cells.append(Cell(masks, seed))
            row = {"scheme": scheme, "block_size": size, "retain": retain, "width": width, "seed": seed}
            table.append(row | ({"p": rate} if dropout.p else {}))
    return cells, pd.DataFrame(table).rename_axis("cell").reset_index()


def distribution(scheme: str, width: int, block_size: int, retain: float, cfg: Config, rows: int) -> Any:
    """The mask distribution that a configuration's `scheme` names."""
    from repro import dropout

    if scheme == "bernoulli":
        return dropout.Bernoulli(width, retain)
    if scheme == "dropconnect_U":
        return dropout.DropConnect(rows, width, retain, "U")
    if scheme == "dropconnect_V":
        return dropout.DropConnect(rows, width, retain, "V")
    if scheme == "dropblock":
        return dropout.DropBlock(width, block_size, retain)
    if scheme == "overlapping_dropblock":
        return dropout.OverlappingDropBlock(width, block_size, retain)
    return dropout.CorrelatedGaussian(width, retain, cfg.dropout.correlation)


def schedule(cfg: LinearConfig) -> Any:
    """The training schedule of a configuration."""
    from repro.training.sweep import Schedule

    training = cfg.training
    return Schedule(
        steps=training.steps,
        learning_rate=training.learning_rate,
        momentum=training.momentum,
        masks_per_step=training.masks_per_step,
        warmup=training.warmup,
        decay=training.schedule,
    )


def placed(problem: "Problem", cfg: LinearConfig) -> "Problem":
    """The problem on the configuration's device in its training precision."""
    import torch

    return problem.to(cfg.device, getattr(torch, cfg.training.dtype))


def stochastic_and_deterministic(
    problem: "Problem", cells: Sequence["Cell"], cfg: LinearConfig, progress: Progress, masks: int, title: str
) -> pd.DataFrame:
    """Train every cell twice from one start, by SGD and by deterministic descent, and measure along the way.

    Args:
        problem: the data's moments in float64.
        cells: the grid.
        cfg: the experiment's configuration.
        progress: where to report.
        masks: how many masks a Monte-Carlo measurement averages over.
        title: names the phases on the progress bar.

    Returns:
        One row a logged step and cell, with columns

        - `monte_carlo`, `standard_error`: the stochastic objective of SGD's iterate, mean over `masks` masks;
        - `deterministic`: the deterministic objective of the same iterate;
        - `dropout_objective`: that of Dropout with the same θ, again of the same iterate;
        - `deterministic_training`: the deterministic objective along deterministic descent;
        - `remeasured`: whether the Monte-Carlo value is a second, larger sample (see `CONFIRMATION`).
    """
    from repro.dropout import Bernoulli
    from repro.training.noise import Cell, noise_of
    from repro.training.sweep import initial_factors, log_steps, train

    width = cfg.model.width
    start = initial_factors(problem, cells, cfg.model.init_scale)
    plan = schedule(cfg)
    steps = log_steps(plan.steps, cfg.training.log_points)
    exact_problem = problem.to(cfg.device, problem.gram.dtype)
    exact = noise_of(exact_problem, cells)
    as_dropout = noise_of(exact_problem, [Cell(Bernoulli(width, c.masks.retain), c.seed) for c in cells])
    generators = [cell.generator("measurement", cfg.device) for cell in cells]
    rows: dict[int, pd.DataFrame] = {}

    def measure(step: int, U: "Tensor", V: "Tensor") -> None:
        expected = exact.objective(U, V)
        mean, error, again = monte_carlo(exact, U, V, expected, generators, masks)
        rows[step] = pd.DataFrame(
            {
                "cell": range(len(cells)),
                "step": step,
                "monte_carlo": mean.cpu().numpy(),
                "standard_error": error.cpu().numpy(),
                "deterministic": expected.cpu().numpy(),
                "dropout_objective": as_dropout.objective(U, V).cpu().numpy(),
                "remeasured": again.cpu().numpy(),
            }
        )

    def measure_descent(step: int, U: "Tensor", V: "Tensor") -> None:
        rows[step]["deterministic_training"] = exact.objective(U, V).cpu().numpy()

    trained = placed(problem, cfg)
    with progress.phase(f"{title}: SGD", total=plan.steps) as bar:
        train(trained, cells, start, plan, log_at=steps, measure=measure, advance=bar.advance)
    with progress.phase(f"{title}: deterministic descent", total=plan.steps) as bar:
        train(
            trained,
            cells,
            start,
            plan,
            deterministic=True,
            log_at=steps,
            measure=measure_descent,
            advance=bar.advance,
        )
    return pd.concat([rows[step] for step in steps], ignore_index=True)


def monte_carlo(
    noise: Any,
    U: "Tensor",
    V: "Tensor",
    expected: "Tensor",
    generators: Sequence["torch.Generator"],
    masks: int,
) -> tuple["Tensor", "Tensor", "Tensor"]:
    """Mean and standard error of the stochastic objective over fresh masks; suspicious cells measured anew.

    A thousand honest comparisons contain two or three beyond three standard errors. So a cell that lies beyond
    is measured once more with `CONFIRMATION` times as many new masks, and that second value counts, whichever
    way it falls.

    Returns:
        mean, standard error and whether the cell was measured again, (cells,) each.
    """
    import torch

    def sample(count: int) -> tuple["Tensor", "Tensor"]:
        losses = noise.sampled_objective(U, V, generators, count)
        return losses.mean(-1), losses.std(-1) / count**0.5

    mean, error = sample(masks)
    again = (mean - expected).abs() > SUSPICIOUS * error
    if again.any():
        draws = [sample(masks) for _ in range(CONFIRMATION)]
        second = torch.stack([m for m, _ in draws]).mean(0)
        second_error = torch.stack([e for _, e in draws]).square().sum(0).sqrt() / CONFIRMATION
        mean, error = torch.where(again, second, mean), torch.where(again, second_error, error)
    return mean, error, again


def mark_diverged(table: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """`table` with the column `diverged`: whether a cell's objectives stopped being finite in either training."""
    last = curves[curves.step == curves.step.max()].set_index("cell")[["deterministic", "deterministic_training"]]
    finite = last[last.abs() < float("inf")].notna().all(axis=1)
    return table.assign(diverged=~table.cell.map(finite).astype(bool))


def agreement(curves: pd.DataFrame) -> dict[str, float]:
    """How far the stochastic objective lies from the deterministic one, over all logged steps and cells where they
    are finite."""
    curves = curves[(curves.monte_carlo - curves.deterministic).abs() < float("inf")]
    distance = (curves.monte_carlo - curves.deterministic).abs()
    standard = distance / curves.standard_error
    return {
        "comparisons": float(len(curves)),
        "largest distance in standard errors": float(standard.max()),
        "mean squared distance in standard errors": float((standard**2).mean()),
        "largest relative standard error": float((curves.standard_error / curves.deterministic).max()),
        "measured twice": float(curves.remeasured.sum()),
    }
