"""Penalties of constant weight for so many updates; then the lowest groups go at once."""

from abc import abstractmethod

import torch
from torch import Tensor

from repro.pruning.methods.method import Method
from repro.pruning.schedule import Number
from repro.theory.checks import check_weight

SMALLEST = 1e-12
"""Norms and scores below it count as it, so that no factor is infinite."""


class Constant(Method):
    """`weight` of the penalty, and the `budget` of updates after which groups are removed.

    Raises:
        ValueError: a negative weight, or a budget below 1.
    """

    def __init__(self, groups: int, ratio: Number, weight: Number, budget: int) -> None:
        super().__init__(groups, ratio)
        check_weight("weight", weight)
        if budget < 1:
            raise ValueError(f"budget must be at least 1, got {budget}")
        self.weight, self.budget = weight, budget

    def _update(self, scores: Tensor, norms: Tensor | None) -> None:
        if norms is None:
            raise ValueError(f"{type(self).__name__} needs the norms of the groups")
        if self.updates > self.budget:
            self.finish(scores)
        else:
            self.penalties = self.weight * self._factors(scores, norms.clamp_min(SMALLEST))

    @abstractmethod
    def _factors(self, scores: Tensor, norms: Tensor) -> Tensor: ...


class GroupLasso(Constant):
    """weight · Σ‖w_g‖, whose gradient is weight · w/‖w_g‖: structured sparsity learning (Wen et al. 2016)."""

    def _factors(self, scores: Tensor, norms: Tensor) -> Tensor:
        return 1 / norms


class AFP(Constant):
    """Auto-balanced filter pruning: the low groups are penalised, the others stimulated as much in sum.

    With M = Σ|w| and θ the largest M of the groups to go, c = 1 + ln(θ/M) for M ≤ θ and c = −1 − ln(M/θ) above. The
    loss gains weight · (S₋ + β S₊), where S₋ and S₊ are Σ c‖w_g‖²/2 over the low groups and over the others, and
    β = −S₋/S₊: the terms cancel, and Σ‖w‖² of the layer stays as it is to first order.
    Source: Ding, Ding, Han, Tang (2018), "Auto-balanced filter pruning for efficient convolutional neural networks".
    Ours: who is low is asked at each update.
    """

    def _factors(self, scores: Tensor, norms: Tensor) -> Tensor:
        order = self._lowest(scores)
        low, high = order[: self.target], order[self.target :]
        scores = scores.clamp_min(SMALLEST)
        ratio = torch.log(scores / scores[low[-1]])
        factors = torch.zeros_like(scores)
        factors[low], factors[high] = 1 - ratio[low], -1 - ratio[high]
        energy = factors * norms.square()
        factors[high] *= -energy[low].sum() / energy[high].sum()
        return factors
