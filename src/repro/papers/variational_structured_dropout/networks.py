"""What the experiments with networks share: every arm is trained alike, several at a time, and compared in pairs."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.dropout.structured import Settings as Structured
from repro.models.variational.build import Network, build
from repro.papers.variational_structured_dropout.settings import NetworkConfig, NetworkOptions
from repro.pipeline.system import threads
from repro.pipeline.system.progress import Progress
from repro.training.sweep.noise import seeded_generator
from repro.training.variational import loop
from repro.training.variational.arms import Arm, compared

Found = TypeVar("Found")


@dataclass(frozen=True)
class Trained:
    """An arm's networks, one a seed; an ensemble has `members` a seed, which stand next to each other."""

    arm: Arm
    network: Network
    members: int
    diverged: Tensor  # (seeds,)
    loss: loop.Loss
    extra: tuple[Tensor, ...]

    @property
    def device(self) -> torch.device:
        """Where the network is; what else is here is on the CPU."""
        return next(self.network.parameters()).device

    def elbo(self, inputs: Tensor, targets: Tensor, count: int, key: str) -> np.ndarray:
        """The ELBO per example of each seed, nats, by so many draws; NaN where the method has none: a point estimate,
        an improper prior."""
        if self.arm.family not in ("structured", "mean_field") or self.arm.prior == "log_uniform":
            return np.full(len(inputs), math.nan)
        generator = seeded_generator(f"elbo {key}", self.device)
        rows, targets = inputs.to(self.device), targets.to(self.device)
        found = loop.negative_elbo(self.network, rows, targets, self.loss, count, generator)
        return -found.cpu().numpy()

    def draws(self, inputs: Tensor, count: int, key: str) -> Tensor:
        """Outputs (draws, seeds, N, outputs), on the CPU, on rows (seeds, N, features): of the posterior, or of the
        members; all 0 of a seed that diverged, whose measures `told` takes back."""
        rows = inputs.repeat_interleave(self.members, 0).to(self.device)
        generator = seeded_generator(f"draws {key}", self.device)
        found = loop.draws(self.network, rows, count if self.arm.draws else 1, generator).cpu()
        found[:, self.diverged.repeat_interleave(self.members)] = 0
        if self.members == 1:
            return found
        return found[0].unflatten(0, (-1, self.members)).transpose(0, 1)


def told(table: pd.DataFrame, trained: Trained) -> pd.DataFrame:
    """A row for each seed: nothing is known of those that diverged, but that they did."""
    bad = trained.diverged.numpy()
    table.loc[bad] = math.nan
    return table.assign(diverged=bad)


def arms(options: NetworkOptions) -> list[Arm]:
    """All of them, the ensemble last."""
    return [*compared(options.reflections, options.drop_rates), Arm("ensemble", "map")]


def trained(
    config: NetworkConfig,
    options: NetworkOptions,
    arm: Arm,
    inputs: Tensor,
    targets: Tensor,
    outputs: int,
    losses: Callable[[int, str], tuple[loop.Loss, tuple[Tensor, ...]]],
    key: str,
    measure: Callable[[Network, loop.Loss, int], None] = lambda network, loss, step: None,
) -> Trained:
    """The arm's networks on the training rows (seeds, N, features). Starts, batches and random numbers depend on `key`
    alone, so that all arms have the same; `losses` makes the loss of so many copies, and its parameters on a
    device."""
    members = options.ensemble if arm.name == "ensemble" else 1
    copies, first = len(inputs) * members, seeded_generator(f"start {key}{' ensemble' if members > 1 else ''}")
    noise_mean = cast(Literal["centred", "rotated"], cast(Structured, config.dropout.noises()[0]).noise_mean)
    make = arm.make(config.training, first, (copies,), noise_mean, config.start)
    network = build(config.model, inputs.shape[-1], outputs, make).to(config.device)
    loss, extra = losses(copies, config.device)
    diverged = loop.train(
        network,
        inputs.repeat_interleave(members, 0).to(config.device),
        targets.repeat_interleave(members, 0).to(config.device),
        loss,
        config.training,
        seeded_generator(f"batches {key}"),
        seeded_generator(f"noise {key}", config.device),
        lambda step: measure(network, loss, step),
        extra,
    )
    return Trained(arm, network, members, diverged.view(-1, members).any(1).cpu(), loss, extra)


def each(config: NetworkConfig, progress: Progress, title: str, work: Sequence[Callable[[], Found]]) -> list[Found]:
    """Results in order, as many at a time as the run has threads, each on one thread of torch: the same bits."""
    count = min(threads.available(config.threads), len(work)) if config.device == "cpu" else 1
    with (
        progress.phase(title, total=len(work)) as bar,
        ThreadPoolExecutor(count, "arm", torch.set_num_threads, (1,)) as pool,
    ):

        def done(job: Callable[[], Found]) -> Found:
            found = job()
            bar.advance()
            return found

        return list(pool.map(done, work))


def split(count: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows, in random order: the rest, and a `share` of them, one at least."""
    order = torch.randperm(count, generator=generator)
    held = max(1, round(share * count))
    return order[held:], order[:held]


def choose(cells: pd.DataFrame, by: str) -> pd.DataFrame:
    """`chosen` says which rows count: of MC dropout's rates the one whose `by` is the largest on average."""
    dropout = cells.arm.str.startswith("dropout")
    means = cells[dropout].groupby(["problem", "arm"])[by].mean()
    best = {(problem, means.loc[problem].fillna(-math.inf).idxmax()) for problem in cells.problem.unique()}
    kept = [not d or pair in best for d, pair in zip(dropout, zip(cells.problem, cells.arm, strict=True), strict=True)]
    return cells.assign(chosen=kept)
