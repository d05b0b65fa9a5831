"""The mean of a stochastic objective over masks, with a second look at what lies far from its expectation."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

# The second measurement, independent of the first and replacing it whatever it says, averages over this many
# times as many masks: a real discrepancy shows twice as clearly, one of chance (1 point in 370) goes away.
CONFIRMATION = 4


def monte_carlo(
    losses: Callable[[int], Float[Tensor, "cells count"]],
    expected: Float[Tensor, " cells"],
    masks: int,
    generators: Sequence[Generator] = (),
    suspicious: float = 3.0,
) -> tuple[Float[Tensor, " cells"], Float[Tensor, " cells"], Bool[Tensor, " cells"]]:
    """Mean and standard error of the stochastic objective over fresh masks; suspicious cells measured anew.

    A thousand honest comparisons contain two or three beyond three standard errors. So a cell that lies beyond
    is measured once more with `CONFIRMATION` times as many new masks, and that second value counts, whichever
    way it falls.

    Args:
        losses: count → the stochastic objective of that many fresh masks a cell, (cells, count).
        expected: what it is compared with, (cells,).
        masks: how many the first measurement averages over.
        generators: those of the cells, where what a cell draws next may not depend on its neighbours.
        suspicious: standard errors from its expectation at which a mean is measured a second time.

    Returns:
        mean, standard error and whether the cell was measured again, (cells,) each.
    """

    def sample(count: int) -> tuple[Tensor, Tensor]:
        drawn = losses(count)
        return drawn.mean(-1), drawn.std(-1) / count**0.5

    mean, error = sample(masks)
    again = (mean - expected).abs() > suspicious * error
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
