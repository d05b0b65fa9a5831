"""How penalties grow in incremental regularization, and when a static ranking's groups go.

Source: Wang, Zhang, Wang, Hu (2019), arXiv 1804.09461.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from repro.theory.checks import check_finite, check_probability, check_weight

Number = int | float
ROUNDING = 1e-9
"""What a ceiling or a count may be missed by, relative: a sum of many increments is not exact."""


def target(groups: int, ratio: Number) -> int:
    """⌈ratio · groups⌉, the groups to be removed; 0.07 of 100 are 7, whatever their product rounds to.

    Raises:
        ValueError: `groups` < 1, or `ratio` outside (0, 1].
    """
    if groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups}")
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must be in (0, 1], got {ratio}")
    return math.ceil(ratio * groups * (1 - ROUNDING))


def increment(ranks: Tensor | ArrayLike, threshold: Number, step: Number, u: Number = 0.25) -> Float[Tensor, "..."]:
    """Δλ(j): A at rank 0, uA at N₁ = K ln(1/u)/ln(2/u), 0 at K, negative beyond; point-symmetric about (N₁, uA).

    A e^(−αj) for j < N₁ and 2uA − A e^(−α(2N₁−j)) from there on, with α = ln(2/u)/K; in float64.

    Args:
        ranks: j ≥ 0, of any shape, whole or not.
        threshold: K > 0, the groups that are still to go.
        step: A > 0.
        u: what is left of A at N₁, in (0, 1).

    Raises:
        ValueError: one of them is not.
    """
    if isinstance(ranks, Tensor):
        j = ranks.to(torch.float64)
    else:
        j = torch.from_numpy(np.array(ranks, dtype=np.float64))
    check_finite("ranks", j)
    if j.numel() and float(j.min()) < 0:
        raise ValueError(f"ranks must be in [0, inf), got {float(j.min()):g}")
    check_positive(threshold=threshold, step=step)
    check_probability("u", u)
    alpha = math.log(2 / u) / threshold
    turn = threshold * math.log(1 / u) / math.log(2 / u)
    falling = step * torch.exp(-alpha * j)
    return torch.where(j < turn, falling, 2 * u * step - step * torch.exp(-alpha * (2 * turn - j)))


def removal_times(
    groups: int, ratio: Number, step: Number, ceiling: Number, u: Number = 0.25
) -> Int[Tensor, " removed"]:
    """The update, counted from 1, after which each of ⌈ratio · groups⌉ groups has λ ≥ ceiling, in order of rank.

    The ranking is static: of the groups alive, the same one is always the lowest. Only it gains `step` at each update,
    so that the next removal is known, and all λ between two removals are linear.

    Args:
        groups: n.
        ratio: R, in (0, 1].
        step: A > 0.
        ceiling: T > 0. The first group goes at ⌈T/A⌉.
        u: as of `increment`.

    Raises:
        ValueError: one of them is not.
    """
    left = target(groups, ratio)
    check_positive(step=step, ceiling=ceiling)
    penalties = torch.zeros(left, dtype=torch.float64)  # those beyond the threshold never gain
    times, now = [], 0
    while left:
        gains = increment(torch.arange(left), left, step, u)
        updates = max(1, math.ceil((ceiling * (1 - ROUNDING) - float(penalties[0])) / step))
        penalties = penalties + updates * gains
        gone = int(reaches(penalties, ceiling).sum())
        now += updates
        times += [now] * gone
        penalties, left = penalties[gone:], left - gone
    return torch.tensor(times)


def reaches(penalties: Tensor, ceiling: Number) -> Tensor:
    """Where λ ≥ ceiling, but for rounding."""
    return penalties >= ceiling * (1 - ROUNDING)


def check_positive(**values: Number) -> None:
    for name, value in values.items():
        check_weight(name, value)
        if value == 0:
            raise ValueError(f"{name} must be in (0, inf), got {value}")
