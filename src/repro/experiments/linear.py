"""What the linear experiments share: their grid of cells, the stochastic objective beside its expectation, claims."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from math import inf
from typing import TYPE_CHECKING, Any

import pandas as pd

from repro import parts
from repro.claims import Claim
from repro.config import Config, LinearConfig
from repro.progress import Progress
from repro.records import Record

if TYPE_CHECKING:
    from torch import Tensor

    from repro.data.linear import LinearData
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


def grid_size(cfg: Config) -> int:
    """How many cells `grid` has."""
    dropout = cfg.dropout
    sizes = sum(len(dropout.block_size) if "dropblock" in scheme else 1 for scheme in dropout.scheme)
    return sizes * len(dropout.p or dropout.retain or ()) * len(cfg.seed)


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


def deterministic_objective(cells: Sequence["Cell"], U: "Tensor", V: "Tensor", data: "LinearData") -> "Tensor":
    """Theory's deterministic objective of each cell at the factors U (cells, a, d), V (cells, b, d): (cells,).

    NaN for a cell that diverged.
    """
    import torch

    from repro import dropout, theory

    X, Y = data.X.to(U), data.Y.to(U)
    found = []
    for cell, u, v in zip(cells, U, V, strict=True):
        masks = cell.masks
        if not (u.isfinite().all() and v.isfinite().all()):
            value = u.new_tensor(torch.nan)
        elif isinstance(masks, dropout.DropBlock):
            value = theory.dropblock_objective(u, v, X, Y, masks.block_size, masks.retain)
        elif isinstance(masks, dropout.Bernoulli):
            value = theory.dropblock_objective(u, v, X, Y, 1, masks.retain)
        elif isinstance(masks, dropout.DropConnect):
            value = theory.dropconnect_objective(u, v, X, Y, masks.retain, on=masks.target)
        else:
            value = theory.expected_objective(u, v, X, Y, masks.mean.to(U), masks.covariance.to(U))
        found.append(value)
    return torch.stack(found)


def compact(data: "LinearData") -> "LinearData":
    """Data with at most a + b samples and the same inner products among all rows of X and Y: the same objectives."""
    import torch

    rows = torch.linalg.qr(torch.cat(data).mT, mode="r")[1].mT
    return data._replace(X=rows[: len(data.X)], Y=rows[len(data.X) :])


def stochastic_and_deterministic(
    data: "LinearData", cells: Sequence["Cell"], cfg: LinearConfig, progress: Progress, masks: int, title: str
) -> pd.DataFrame:
    """Train every cell twice from one start, by SGD and by deterministic descent, and measure along the way.

    Args:
        data: X and Y in float64.
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

    def part(start: int, stop: int) -> pd.DataFrame:
        rows = _both_trainings(data, cells[start:stop], cfg, progress, masks, title)
        return rows.assign(cell=rows.cell + start)

    rows = pd.concat(parts.each(part, len(cells), cfg))
    return rows.sort_values(["step", "cell"], kind="stable", ignore_index=True)


def _both_trainings(
    data: "LinearData", cells: Sequence["Cell"], cfg: LinearConfig, progress: Progress, masks: int, title: str
) -> pd.DataFrame:
    """`stochastic_and_deterministic` on some of the cells."""
    from repro.dropout import Bernoulli
    from repro.training.noise import Cell, Problem, noise_of
    from repro.training.sweep import initial_factors, log_steps, train

    width = cfg.model.width
    problem = Problem.from_data(*data)
    data = compact(data)
    start = initial_factors(problem, cells, cfg.model.init_scale)
    plan = schedule(cfg)
    steps = log_steps(plan.steps, cfg.training.log_points)
    noise = noise_of(problem.to(cfg.device, problem.gram.dtype), cells)
    as_dropout = [Cell(Bernoulli(width, c.masks.retain), c.seed) for c in cells]
    generators = [cell.generator("measurement", cfg.device) for cell in cells]
    rows: dict[int, pd.DataFrame] = {}

    def measure(step: int, U: "Tensor", V: "Tensor") -> None:
        expected = deterministic_objective(cells, U, V, data)
        losses = partial(noise.sampled_objective, U, V, generators)
        mean, error, again = monte_carlo(losses, expected, masks, generators)
        rows[step] = pd.DataFrame(
            {
                "cell": range(len(cells)),
                "step": step,
                "monte_carlo": mean.cpu().numpy(),
                "standard_error": error.cpu().numpy(),
                "deterministic": expected.cpu().numpy(),
                "dropout_objective": deterministic_objective(as_dropout, U, V, data).cpu().numpy(),
                "remeasured": again.cpu().numpy(),
            }
        )

    def measure_descent(step: int, U: "Tensor", V: "Tensor") -> None:
        rows[step]["deterministic_training"] = deterministic_objective(cells, U, V, data).cpu().numpy()

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
    losses: Callable[[int], "Tensor"], expected: "Tensor", masks: int, generators: Sequence[Any] = ()
) -> tuple["Tensor", "Tensor", "Tensor"]:
    """Mean and standard error of the stochastic objective over fresh masks; suspicious cells measured anew.

    A thousand honest comparisons contain two or three beyond three standard errors. So a cell that lies beyond
    is measured once more with `CONFIRMATION` times as many new masks, and that second value counts, whichever
    way it falls.

    Args:
        losses: count → the stochastic objective of that many fresh masks a cell, (cells, count).
        expected: what it is compared with, (cells,).
        masks: how many the first measurement averages over.
        generators: those of the cells, where what a cell draws next may not depend on its neighbours.

    Returns:
        mean, standard error and whether the cell was measured again, (cells,) each.
    """
    import torch

    def sample(count: int) -> tuple["Tensor", "Tensor"]:
        drawn = losses(count)
        return drawn.mean(-1), drawn.std(-1) / count**0.5

    mean, error = sample(masks)
    again = (mean - expected).abs() > SUSPICIOUS * error
    if again.any():
        states = [generator.get_state() for generator in generators]
        draws = [sample(masks) for _ in range(CONFIRMATION)]
        second = torch.stack([m for m, _ in draws]).mean(0)
        second_error = torch.stack([e for _, e in draws]).square().sum(0).sqrt() / CONFIRMATION
        mean, error = torch.where(again, second, mean), torch.where(again, second_error, error)
        for generator, state, drew in zip(generators, states, again.tolist(), strict=False):
            if not drew:
                generator.set_state(state)
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


# ---------------------------------------------------------------------- claims


def stochastic_claim(id: str, statement: str, source: str, *, resolution: float = 0.01, what: str = "iterate") -> Claim:
    """The claim that the stochastic objective's expectation is the deterministic one.

    A comparison whose standard error exceeds the fraction `resolution` of the objective could not tell a wrong formula
    from a right one, and counts as failed.
    """

    def measure(record: Record) -> pd.Series:
        rows = record.table("curves").dropna(subset="monte_carlo") if "monte_carlo" in record.curves else None
        if rows is None or rows.empty:
            return pd.Series(dtype=float)
        distance = (rows.monte_carlo - rows.deterministic).abs() / rows.standard_error
        blunt = rows.standard_error > resolution * rows.deterministic
        return rows.assign(distance=distance.where(~blunt, inf)).groupby("seed").distance.max()

    return Claim(
        id=id,
        statement=statement,
        source=source,
        quantity=f"largest distance of a Monte-Carlo mean from the deterministic objective of the same {what}, in "
        "standard errors",
        low=-inf,
        high=SUSPICIOUS,
        because=f"sampling error alone; a standard error above {100 * resolution:g} % of the objective counts as "
        "failed, and a value beyond 3 is measured once more with four times the masks",
        measure=measure,
        figure="objective",
    )


def _descent_difference(record: Record) -> pd.Series:
    rows = record.table("curves")
    last = rows[rows.step == rows.step.max()]
    difference = (last.deterministic / last.deterministic_training - 1).abs()
    return last.assign(difference=difference).groupby("seed").difference.max()


DESCENT = Claim(
    id="same_descent",
    statement="Training on random masks and descending the deterministic objective end at the same value.",
    source="E1, E3, E5; paper sections 1 to 3",
    quantity="largest relative difference of the objectives reached from one start",
    low=-inf,
    high=0.02,
    because="SGD on finitely many masks keeps a little noise; a wrong penalty changes the value by tens of per cent",
    measure=_descent_difference,
    scales=("cpu", "gpu"),
    figure="objective",
)
