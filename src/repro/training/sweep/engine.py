"""The sweep engine: a whole grid of linear networks, such as Ŷ = U Vᵀ X, trained as one batched computation.

The data enter only through the moments XXᵀ, YXᵀ and ‖Y‖² (`Problem`), so a step costs the same for any number
of samples. What the masks do to objective and gradient is in `repro.training.sweep.noise`; here are the grid, the
schedule and the loop, which trains any number of factors.

Every cell of the grid draws from generators of its own, seeded by its seed and its mask distribution, so
its numbers do not depend on its neighbours and a sweep may be cut into shards anywhere.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from repro.pipeline.system.threads import torch_threads
from repro.training.sweep import Settings
from repro.training.sweep.noise import Cell, Gradients, Problem, noise_of, one_target, seeded_generator

# Cells that one thread trains at a time. Fixed, so that numbers do not depend on how many threads there are.
SHARD = 8
# Cells that a GPU trains at a time: enough to fill it; their masks and moments take a gigabyte or so.
GPU_SHARD = 512


@dataclass(frozen=True)
class Schedule:
    """SGD with heavy-ball momentum, a linear warm-up and a cosine decay to zero.

    Attributes:
        steps: the number of updates.
        learning_rate: peak step size η for a cell without dropout; a cell's own peak is η / (1 + max_i C̄_ii / m),
            because the curvature that one step sees grows with the variance of its averaged masks.
        momentum: heavy-ball coefficient in [0, 1).
        masks_per_step: m, the masks that a step averages over.
        warmup: the fraction of the steps over which the step size rises to its peak.
        decay: `cosine` to zero, or `constant`.
    """

    steps: int
    learning_rate: float
    momentum: float = 0.9
    masks_per_step: int = 1
    warmup: float = 0.05
    decay: Literal["cosine", "constant"] = "cosine"

    @classmethod
    def of(cls, settings: Settings) -> "Schedule":
        same = settings.model_dump(include={"steps", "learning_rate", "momentum", "masks_per_step", "warmup"})
        return cls(**same, decay=settings.schedule)

    def factor(self, step: int) -> float:
        """The fraction of the peak step size that update number `step` (from 0) uses."""
        rise = min(1.0, (step + 1) / max(1.0, self.warmup * self.steps))
        if self.decay == "constant":
            return rise
        return rise * 0.5 * (1 + math.cos(math.pi * step / self.steps))


Factors = tuple[Float[Tensor, "cells _ _"], ...]
Measure = Callable[..., None]


def log_steps(steps: int, points: int) -> list[int]:
    """About `points` steps from 0 to `steps`, evenly spaced on a logarithmic scale."""
    grid = torch.logspace(0, math.log10(steps + 1), points, dtype=torch.float64) - 1
    return sorted({*(round(x) for x in grid.tolist()), 0, steps})


def initial_factors(
    problem: Problem, cells: Sequence[Cell], scale: float
) -> tuple[Float[Tensor, "cells a d"], Float[Tensor, "cells b d"]]:
    """Gaussian factors; cells of one seed and one width start in the same direction.

    The penalty of a random start grows as (1−θ)/θ, and with it the curvature that the first steps meet: columns
    have root-mean-square norm `scale`·θ^¼, which starts every cell with a penalty of about the same size.

    Args:
        problem: fixes a and b.
        cells: the grid; d is the last dimension of their masks.
        scale: root-mean-square norm of a column of U and of V at θ = 1.

    Returns:
        U and V in float64 on the CPU.
    """
    a, b = problem.cross.shape
    draws = []
    for cell in cells:
        generator = seeded_generator(f"initialisation {cell.seed}")
        draw = torch.randn(a + b, cell.masks.shape[-1], generator=generator, dtype=torch.float64)
        draws.append(draw * scale * cell.masks.retain**0.25)
    factors = torch.stack(draws)
    return factors[:, :a] / math.sqrt(a), factors[:, a:] / math.sqrt(b)


def train(
    problem: Problem,
    cells: Sequence[Cell],
    start: Factors,
    schedule: Schedule,
    *,
    noise: Callable[[Problem, Sequence[Cell], int], Gradients] = noise_of,
    deterministic: bool = False,
    log_at: Sequence[int] = (),
    measure: Measure | None = None,
    advance: Callable[[int], object] = lambda steps: None,
    threads: int = 1,
) -> Factors:
    """Train every cell by SGD on its stochastic objective, or by gradient descent on its deterministic one.

    Precision and device are those of `problem`. A cell that diverges is no longer finite and leaves the others alone;
    where all of a shard have, nothing more is computed.

    Args:
        problem: the data's moments.
        cells: the grid; all masks on the same target.
        start: initial factors, such as U (cells, a, d) and V (cells, b, d); each is cells first.
        schedule: step sizes and masks per step.
        noise: noise(problem, cells, masks_per_step) is what the masks do to these factors: a
            `repro.training.noise.Noise`, or one whose methods take as many factors as `start` has.
        deterministic: descend the exact expectation instead of sampling masks.
        log_at: the steps at which to measure (0 is the start).
        measure: called as measure(step, *factors) at those steps with copies in float64.
        advance: called with the number of steps done since the last call, for a progress bar.
        threads: shards at a time on the CPU, each on a thread of its own. Numbers do not depend on it.

    Returns:
        The final factors, shaped as `start`.

    Raises:
        ValueError: cells whose masks act on different targets.
    """
    on_hidden = one_target(cells) == "hidden"  # each shard sees its own cells only
    milestones = sorted({0, *(step for step in log_at if 0 <= step <= schedule.steps), schedule.steps})
    with _one_thread_each(problem.gram.device, threads) as run_all:
        turned, *turns = problem.turned() if on_hidden else (problem,)
        size = shard(problem.gram.device.type)
        shards = [
            _Shard(
                noise(turned, cells[i : i + size], schedule.masks_per_step),
                [f[i : i + size] for f in start],
                turns,
                schedule,
                deterministic,
            )
            for i in range(0, len(cells), size)
        ]
        for begin, end in zip([0, *milestones], milestones, strict=False):
            run_all([partial(shard.run, begin, end) for shard in shards])
            found = [torch.cat(factors) for factors in zip(*(shard.unturned() for shard in shards), strict=True)]
            if measure is not None and end in log_at:
                measure(end, *(factor.to(torch.float64, copy=True) for factor in found))
            advance(end - begin)
    return tuple(found)


def shard(device: str) -> int:
    """How many cells a device of that type trains at a time."""
    return SHARD if device == "cpu" else GPU_SHARD


class _Shard:
    """A few cells on their way: what one thread works on at a time, in the bases of `turns`, one a factor or none."""

    def __init__(
        self, noise: Gradients, start: Sequence[Tensor], turns: Sequence[Tensor], plan: Schedule, deterministic: bool
    ) -> None:
        self._start, self._turns, self._done = [factor.to(noise.amplification) for factor in start], turns, 0
        # Transposed in memory, (cells, d, ·): the layout in which `HiddenNoise` computes gradients.
        self.factors = [
            factor.to(noise.amplification).mT.clone(memory_format=torch.contiguous_format).mT
            for factor in _turned([turn.mT for turn in turns], start)
        ]
        self.schedule = plan
        self._gradient = noise.expected_gradient if deterministic else noise.sampled_gradient
        self._peak = (plan.learning_rate / noise.amplification)[:, None, None]
        self._velocities = [torch.zeros_like(factor) for factor in self.factors]

    def run(self, begin: int, end: int) -> None:
        """Do the updates number `begin` to `end` − 1."""
        self._done = end
        if not torch.stack([factor.isfinite().all((1, 2)) for factor in self.factors]).all(0).any():
            return  # all of them have diverged
        momentum = self.schedule.momentum
        for step in range(begin, end):
            gradients = self._gradient(*self.factors)
            rate = self._peak * self.schedule.factor(step)
            for factor, velocity, gradient in zip(self.factors, self._velocities, gradients, strict=True):
                torch.add(gradient, velocity, alpha=momentum, out=velocity)
                factor.addcmul_(rate, velocity, value=-1)

    def unturned(self) -> list[Tensor]:
        """Where the cells are, in the bases of the start; at step 0 the start itself, to the bit."""
        return self._start if self._done == 0 else _turned(self._turns, self.factors)


def _turned(turns: Sequence[Tensor], factors: Sequence[Tensor]) -> list[Tensor]:
    """Each factor in another basis, computed in float64: no rounding on top of the training's."""
    if not turns:
        return list(factors)
    return [(turn @ factor.to(turn)).to(factor.dtype) for turn, factor in zip(turns, factors, strict=True)]


@contextmanager
def _one_thread_each(device: torch.device, threads: int) -> Iterator[Callable[[Sequence[Callable[[], None]]], object]]:
    """Run functions side by side on so many threads of the CPU, torch using one in each; in turn on a GPU.

    Splitting one product of small matrices over threads costs more in waiting than it gains, all the more where
    other programs hold a core; whole shards have nothing to wait for.
    """
    if device.type != "cpu":
        yield lambda tasks: [task() for task in tasks]
        return
    with torch_threads(1), ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield lambda tasks: [future.result() for future in [pool.submit(task) for task in tasks]]
