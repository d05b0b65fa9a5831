"""Incremental regularization (IncReg): each group's penalty gains what its rank says, and may lose it again."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repro.pruning.methods.method import Method
from repro.pruning.schedule import Number, check_positive, increment, reaches
from repro.theory.checks import check_probability


class IncReg(Method):
    """λ_g ← max(λ_g + Δλ, 0) by the order of the groups' mean ranks; a group goes once λ_g ≥ `ceiling`.

    A group's rank is that of its Σ|w| among those alive, 0 the least, and its mean rank that over all updates so far.
    The target reached, all λ are 0. Source: Wang, Zhang, Wang, Hu (2019).

    Args:
        groups, ratio: as of `Method`.
        step, u: A and u of `increment`.
        ceiling: T.
        mean_ranks: False for the ranks of the moment, a control.
        recovery: False for increments that are never negative, a control.

    Raises:
        ValueError: a step, a ceiling or a u that `increment` refuses.
    """

    STATE = (*Method.STATE, "ranks")

    def __init__(
        self,
        groups: int,
        ratio: Number,
        step: Number,
        ceiling: Number,
        u: Number = 0.25,
        *,
        mean_ranks: bool = True,
        recovery: bool = True,
    ) -> None:
        super().__init__(groups, ratio)
        check_positive(step=step, ceiling=ceiling)
        check_probability("u", u)
        self.step, self.ceiling, self.u = step, ceiling, u
        self.mean_ranks, self.recovery = mean_ranks, recovery
        self._known: tuple[int, Tensor] | None = None
        self.ranks = torch.zeros(groups, dtype=torch.float64)
        """Of the last update where `mean_ranks` is off, else their sum over all updates."""

    def _update(self, scores: Tensor, norms: Tensor | None) -> None:
        lowest = self._lowest(scores)
        if not self.mean_ranks:
            self.ranks.zero_()
        self.ranks[lowest] += torch.arange(len(lowest), dtype=torch.float64)
        order = self._by_rank(lowest)
        left = self.target - self.removed
        self.penalties[order] = (self.penalties[order] + self._gains(len(order), left)).clamp_min_(0)
        gone = order[reaches(self.penalties[order], self.ceiling)]
        self._remove(gone[:left])

    def _gains(self, groups: int, left: int) -> Tensor:
        """Δλ by rank: the same from one removal to the next."""
        if self._known is None or self._known[0] != left:
            gains = increment(torch.arange(groups), left, self.step, self.u)
            self._known = left, gains if self.recovery else gains.clamp_min(0)
        return self._known[1]

    def order(self, scores: Float[Tensor, " groups"]) -> Int[Tensor, " alive"]:
        """By mean rank; equal ones by score."""
        return self._by_rank(self._lowest(scores))

    def _by_rank(self, groups: Tensor) -> Tensor:
        return groups[self.ranks[groups].argsort(stable=True)]
