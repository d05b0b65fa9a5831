"""Removal at the first update: the lowest groups, and two controls."""

from jaxtyping import Float, Int
from torch import Generator, Tensor, randperm

from repro.pruning.methods.method import Method
from repro.pruning.schedule import Number


class OneShot(Method):
    """The groups of least Σ|w|, at once (Li et al. 2017)."""

    def _update(self, scores: Tensor, norms: Tensor | None) -> None:
        self.finish(scores)


class LargestL1(OneShot):
    """A control: the groups of largest Σ|w|."""

    def order(self, scores: Float[Tensor, " groups"]) -> Int[Tensor, " alive"]:
        return self._lowest(-scores)


class Random(OneShot):
    """A control: groups in an order drawn from `generator`."""

    def __init__(self, groups: int, ratio: Number, generator: Generator) -> None:
        super().__init__(groups, ratio)
        self.drawn = randperm(groups, generator=generator).double()

    STATE = (*Method.STATE, "drawn")

    def order(self, scores: Float[Tensor, " groups"]) -> Int[Tensor, " alive"]:
        return self._lowest(self.drawn)
