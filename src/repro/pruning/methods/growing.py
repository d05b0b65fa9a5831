"""Growing regularization (GReg): penalties that gain the same step at each update, of fixed groups or of all."""

import torch
from torch import Tensor

from repro.pruning.methods.method import Method
from repro.pruning.schedule import Number, check_positive, reaches


class GReg1(Method):
    """The groups of least Σ|w| at the first update are fixed; their λ gains `step` at each, and they go together once
    λ ≥ `ceiling`. Source: Wang, Qin, Zhang, Fu (2021), algorithm 1.

    Raises:
        ValueError: a step or a ceiling that is not positive.
    """

    STATE = (*Method.STATE, "chosen")

    def __init__(self, groups: int, ratio: Number, step: Number, ceiling: Number) -> None:
        super().__init__(groups, ratio)
        check_positive(step=step, ceiling=ceiling)
        self.step, self.ceiling = step, ceiling
        self.chosen = torch.zeros(groups, dtype=torch.bool)

    def _update(self, scores: Tensor, norms: Tensor | None) -> None:
        if not self.chosen.any():
            self._choose(scores)
        self.penalties[self.chosen] += self.step
        if reaches(self.penalties[self.chosen], self.ceiling).all():
            self._remove(self.chosen.nonzero()[:, 0])

    def _choose(self, scores: Tensor) -> None:
        self.chosen[self._lowest(scores)[: self.target]] = True

    def order(self, scores: Tensor) -> Tensor:
        return self._lowest(torch.where(self.chosen, -torch.inf, scores))


class GReg2(GReg1):
    """All λ grow until λ ≥ `pick`; then the groups of least Σ|w| are chosen, which go on as in GReg-1, and the
    others' λ is 0 again. Source: Wang, Qin, Zhang, Fu (2021), algorithm 2.

    Raises:
        ValueError: a step that is not positive, or not 0 < pick < ceiling.
    """

    def __init__(self, groups: int, ratio: Number, step: Number, ceiling: Number, pick: Number) -> None:
        super().__init__(groups, ratio, step, ceiling)
        if not 0 < pick < ceiling:
            raise ValueError(f"pick must be in (0, ceiling={ceiling}), got {pick}")
        self.pick = pick

    def _update(self, scores: Tensor, norms: Tensor | None) -> None:
        if self.chosen.any():
            super()._update(scores, norms)
            return
        self.penalties += self.step
        if reaches(self.penalties, self.pick).all():
            self._choose(scores)
            self.penalties[~self.chosen] = 0
