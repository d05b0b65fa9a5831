"""SGD under real masks whose retain probabilities follow the weights."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from repro.pipeline.system.threads import torch_threads
from repro.training.reweighting import Settings
from repro.training.reweighting.problem import Cells
from repro.training.sweep.noise import seeded_generator

# Cells that one thread trains at a time. Fixed, so that numbers do not depend on how many threads there are.
SHARD = 15
FLOOR = 1e-12  # least retain probability of a mask that is drawn
Noise = Literal["bernoulli", "gaussian"]


def trained_under_masks(
    cells: Cells,
    start: Float[Tensor, "cells d"],
    noise: Noise,
    training: Settings,
    *,
    key: str,
    threads: int = 1,
    advance: Callable[[int], object] = lambda steps: None,
) -> Float[Tensor, "cells d"]:
    """The weights after SGD on ½‖y − X(s∘w)‖², s drawn anew in every step with α = α(w) of the moment.

    s is b/α with b ~ Bern(α), or N(1, (1−α)/α). No gradient goes through α. The curvature of weight j is about 1/α_j:
    its step is the learning rate times α_j, which changes no stationary point.
    """
    shards = [torch.arange(len(cells))[i : i + SHARD] for i in range(0, len(cells), SHARD)]

    def train(number: int) -> Tensor:
        rows = shards[number]
        return _descend(cells[rows], start[rows], noise, training, f"adaptive masks {key} {noise} {number}", advance)

    with torch_threads(1), ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return torch.cat(list(pool.map(train, range(len(shards)))))


def _descend(
    cells: Cells, w: Tensor, noise: Noise, training: Settings, key: str, advance: Callable[[int], object]
) -> Tensor:
    generator = seeded_generator(key)
    shape = (len(cells), training.masks_per_step, w.shape[1])
    for step in range(training.steps):
        rate = training.learning_rate * (1 + math.cos(math.pi * step / training.steps)) / 2
        alpha = cells.retain(w).clamp_min(FLOOR)
        masks = draw(alpha[:, None], noise, shape, generator)
        gradient = (masks * ((masks * w[:, None]) @ cells.gram - cells.moment[:, None])).mean(1)
        w = w - rate * alpha * gradient
        if step % 100 == 99:
            advance(100)
    return w


def draw(alpha: Tensor, noise: Noise, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Masks of mean 1 and variance (1−α)/α."""
    if noise == "bernoulli":
        return (torch.rand(shape, generator=generator, dtype=torch.float64) < alpha) / alpha
    return 1 + ((1 - alpha) / alpha).sqrt() * torch.randn(shape, generator=generator, dtype=torch.float64)
