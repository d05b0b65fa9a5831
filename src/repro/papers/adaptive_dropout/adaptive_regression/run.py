"""Reweighting, proximal gradient descent and SGD under masks, on the same regressions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import nan

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.data.sparse_regression.load import load
from repro.papers.adaptive_dropout.adaptive_regression import CONTROLS, KEPT, MASKED, SPARSE, ZERO, Config, Options
from repro.papers.adaptive_dropout.strategies import Ridge
from repro.pipeline.store import Result
from repro.pipeline.system import threads
from repro.pipeline.system.progress import Progress
from repro.theory.penalties import L1, MCP, LogSum, Standout
from repro.theory.penalties.base import Penalty
from repro.training.reweighting.masks import SHARD, Noise, trained_under_masks
from repro.training.reweighting.problem import Cells
from repro.training.reweighting.solve import proximal_gradient, reweighted
from repro.training.sweep.noise import seeded_generator

START_RIDGE = 0.1  # the ridge regression from which cells start
KEY = ["penalty", "strength", "seed"]


@dataclass(frozen=True)
class _Problems:
    """The regressions of all seeds."""

    gram: Tensor
    moment: Tensor
    energy: Tensor
    truth: Tensor
    seeds: Sequence[int]

    @classmethod
    def of(cls, config: Config) -> "_Problems":
        X, y, truth = map(torch.stack, zip(*(load(config.data, seed) for seed in config.seed), strict=True))
        moment = (X.mT @ y.unsqueeze(-1)).squeeze(-1)
        return cls(X.mT @ X, moment, y.square().sum(1) / 2, truth, config.seed)

    def cells(self, table: pd.DataFrame, options: Options) -> Cells:
        penalties = penalties_of(options)
        rows = torch.tensor([self.seeds.index(seed) for seed in table.seed])
        weight = torch.tensor(
            [strength / penalties[name][1] for name, strength in zip(table.penalty, table.strength, strict=True)],
            dtype=torch.float64,
        )
        found = [penalties[name][0] for name in table.penalty]
        return Cells(self.gram[rows], self.moment[rows], self.energy[rows], weight, found)

    def starts(self, table: pd.DataFrame) -> Tensor:
        """Start 0 is a ridge regression; the others are normal, of twice the size of a true weight."""
        d = self.moment.shape[1]
        ridge = torch.linalg.solve(self.gram + START_RIDGE * torch.eye(d, dtype=torch.float64), self.moment)

        def one(seed: int, start: int) -> Tensor:
            if start == 0:
                return ridge[self.seeds.index(seed)]
            generator = seeded_generator(f"start {seed} {start}")
            return 2 * torch.randn(d, generator=generator, dtype=torch.float64)

        return torch.stack([one(seed, start) for seed, start in zip(table.seed, table.start, strict=True)])


def penalties_of(options: Options) -> dict[str, tuple[Penalty, float]]:
    """Each penalty, and Ω'(0⁺) where that is a slope, else 1: the strength is λ times it."""
    return {
        "L1": (L1(), 1.0),
        "LogSum": (LogSum(options.epsilon), 1 / options.epsilon),
        "MCP": (MCP(1.0, options.knee), 1.0),
        "ridge": (Ridge(), 1.0),
        "Standout": (Standout(options.slope, 0.0, 1.0), 1.0),
    }


def run(config: Config, progress: Progress) -> Result:
    options, training = config.options, config.training
    problems = _Problems.of(config)
    starts = range(1 + options.starts)
    names = ["method", "penalty", "strength", "seed", "start"]

    def grid(method: str, penalties: Sequence[str], strengths: Sequence[float], begun: Sequence[int]) -> pd.DataFrame:
        rows = [(method, *row) for row in product(penalties, strengths, config.seed, begun)]
        return pd.DataFrame(rows, columns=names)

    exact = pd.concat(
        [
            grid("reweighting", SPARSE, options.strengths, starts),
            grid("reweighting", CONTROLS, options.strengths, [0]),
        ],
        ignore_index=True,
    )
    peer = grid("proximal gradient", SPARSE, options.strengths, starts)
    masked = [grid(noise, SPARSE + CONTROLS, options.mask_strengths, [0]) for noise in MASKED]
    with progress.phase("reweighting", total=len(exact)) as bar:
        cells = problems.cells(exact, options)
        solved = reweighted(cells, problems.starts(exact), training.iterations, training.tolerance)
        bar.advance(len(exact))
    with progress.phase("proximal gradient", total=len(peer)) as bar:
        others = problems.cells(peer, options)
        found = proximal_gradient(others, problems.starts(peer), options.peer_iterations, training.tolerance)
        bar.advance(len(peer))
    tables = [
        exact.assign(iterations=solved.iterations.numpy()),
        peer.assign(iterations=found.iterations.numpy()),
    ]
    weights, batches = [solved.weights, found.weights], [cells, others]
    shards = -(-len(masked[0]) // SHARD)
    with progress.phase("SGD under masks", total=training.steps * shards * len(MASKED)) as bar:
        for noise, table in zip(MASKED, masked, strict=True):
            batch = problems.cells(table, options)
            kind: Noise = "bernoulli" if noise == "bernoulli" else "gaussian"
            weights.append(
                trained_under_masks(
                    batch, problems.starts(table), kind, training, key=str(config.seed),
                    threads=threads.available(config.threads), advance=bar.advance,
                )
            )  # fmt: skip
            batches.append(batch)
            tables.append(table.assign(iterations=training.steps))
    measured = [_measured(*each, problems) for each in zip(tables, batches, weights, strict=True)]
    table = pd.concat(measured, ignore_index=True).rename_axis("cell").reset_index()
    every = torch.cat(weights).numpy()
    kept = torch.cat([cells.retain(w) >= KEPT for cells, w in zip(batches, weights, strict=True)]).numpy()
    table = _compared(table, every, kept)
    arrays = {"weights": every, "truth": problems.truth.numpy(), "truth_seed": np.array(config.seed)}
    return Result(table, arrays=arrays, headline=_headline(table))


def _measured(table: pd.DataFrame, cells: Cells, w: Tensor, problems: _Problems) -> pd.DataFrame:
    truth = problems.truth[[problems.seeds.index(seed) for seed in table.seed]]
    alpha = cells.retain(w)
    slope = cells.slope(torch.zeros_like(w))
    off = torch.where(w == 0, cells.gradient(w).abs() / slope.clamp_min(1e-300), 0.0).amax(1)
    columns = {
        "residual": cells.residual(w),
        "gradient_on_zeros": torch.where((w == 0).any(1), off, nan),
        "objective": cells.objective(w),
        "nonzeros": (w != 0).sum(1),
        "left": ((w != 0) & (alpha >= ZERO)).sum(1),
        "zeros": ((w == 0) | (alpha < ZERO)).double().mean(1),
        "wrong": ((w != 0) != (truth != 0)).sum(1),
        "missed": ((w == 0) & (truth != 0)).sum(1),
        "error": (w - truth).norm(dim=1) / truth.norm(dim=1),
    }
    return table.assign(**{name: column.numpy() for name, column in columns.items()})


def _compared(table: pd.DataFrame, weights: np.ndarray, kept: np.ndarray) -> pd.DataFrame:
    """Each row beside reweighting's from the start of ridge: `distance`; how many weights are `kept` that are zero
    there, or the other way round, `support_difference`, and that are not kept there, `kept_difference`; `moved` by the
    start. And `excess` of the objective over the best of proximal gradient descent."""
    own = table[(table.method == "reweighting") & (table.start == 0)].set_index(KEY).cell
    best = table[table.method == "proximal gradient"].groupby(KEY).objective.min()
    reference = own.reindex(pd.MultiIndex.from_frame(table[KEY])).to_numpy()
    size = np.linalg.norm(weights[reference], axis=1)
    distance = np.linalg.norm(weights - weights[reference], axis=1) / np.where(size > 0, size, 1.0)
    lowest = best.reindex(pd.MultiIndex.from_frame(table[KEY])).to_numpy()
    return table.assign(
        distance=distance,
        moved=np.where(table.start > 0, distance, 0.0),
        support_difference=(kept != (weights[reference] != 0)).sum(1),
        kept_difference=(kept != kept[reference]).sum(1),
        excess=(table.objective.to_numpy() - lowest) / np.abs(lowest),
    )


def _headline(table: pd.DataFrame) -> dict[str, float]:
    exact = table[(table.method == "reweighting") & table.penalty.isin(SPARSE)]
    masked = table[table.method.isin(MASKED) & table.penalty.isin(SPARSE)]
    return {
        "largest KKT residual after reweighting": float(exact.residual.max()),
        "largest excess over proximal gradient descent, L1": float(exact.excess[exact.penalty == "L1"].max()),
        "largest distance of SGD under masks from the penalty's solution": float(masked.distance.max()),
        "weights on whose keeping they differ": float(masked.kept_difference.max()),
    }
