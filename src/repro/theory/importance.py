"""Schedules of the weights that a cost has along training."""

import torch
from jaxtyping import Float
from torch import Tensor

from repro.theory.arrays import takes_arrays


@takes_arrays
def importance(
    progress: Float[Tensor, "*batch"], shape: str, weight: float, begin: float, end: float
) -> Float[Tensor, "*batch"]:
    """The importance weight at `progress`, the share of training that is done.

    constant: `weight`. abrupt: `weight` before `end`, then 0. linear: `weight` to `begin`, straight down to 0 at `end`.
    exponential: `weight` to `begin`, then weight·exp(−(progress − begin) / (end − begin)).

    Args:
        begin, end: shares of training, 0 <= begin < end.

    Raises:
        ValueError: another shape, or begin and end that are not in order.
    """
    if not 0 <= begin < end:
        raise ValueError(f"begin and end must be 0 <= begin < end, got {begin} and {end}")
    done = ((progress - begin) / (end - begin)).clamp(min=0)
    match shape:
        case "constant":
            share = torch.ones_like(progress)
        case "abrupt":
            share = (progress < end).to(progress)
        case "linear":
            share = (1 - done).clamp(min=0)
        case "exponential":
            share = (-done).exp()
        case _:
            raise ValueError(f"shape must be one of constant, linear, abrupt, exponential, got {shape}")
    return weight * share
