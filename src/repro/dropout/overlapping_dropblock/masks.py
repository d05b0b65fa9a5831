from dataclasses import dataclass
from functools import cached_property

import torch
from scipy.optimize import brentq
from torch import Tensor
from torch.nn.functional import max_pool1d, pad

from repro.dropout.distribution import MaskDistribution, Source, bernoulli
from repro.dropout.overlapping_dropblock import Settings


@dataclass(frozen=True)
class OverlappingDropBlock(MaskDistribution):
    """The original DropBlock (Ghiasi, Lin and Le 2018) in one dimension: blocks overlap.

    A seed falls on each of the d−r+1 positions with probability γ, and a seed at s drops the units s … s+r−1.
    With S_i the positions that cover unit i: μ_i = (1−γ)^|S_i| and E[z_i z_j] = (1−γ)^|S_i ∪ S_j|. Layers in
    libraries also divide by the fraction kept in each draw, which is not linear in z; here z is divided by its
    mean like every other mask.

    r = `block_size` lies in 1 … d and need not divide d; γ follows from θ = (1/d) Σ_i μ_i.
    """

    width: int
    block_size: int
    retain: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.block_size <= self.width:
            raise ValueError(f"block_size = {self.block_size} must lie in 1 … width = {self.width}")

    @cached_property
    def _covers(self) -> Tensor:
        """|S_i|."""
        return covering(self.width, self.block_size).sum(1)

    @cached_property
    def seed_probability(self) -> float:
        """γ, the root of (1/d) Σ_i (1−γ)^|S_i| = θ; the left side falls from 1 to 0 over γ ∈ [0, 1]."""
        return float(brentq(lambda g: float(((1 - g) ** self._covers).mean()) - self.retain, 0.0, 1.0, xtol=1e-16))

    @cached_property
    def mean(self) -> Tensor:
        return (1 - self.seed_probability) ** self._covers

    @cached_property
    def covariance(self) -> Tensor:
        indicator = covering(self.width, self.block_size)
        union = self._covers[:, None] + self._covers - indicator @ indicator.T
        return (1 - self.seed_probability) ** union - torch.outer(self.mean, self.mean)

    def sample(self, count: int, generator: Source, dtype: torch.dtype = torch.float32) -> Tensor:
        r = self.block_size
        seeds = bernoulli((count, self.width - r + 1), self.seed_probability, generator, dtype)
        return 1 - max_pool1d(pad(seeds, (r - 1, r - 1))[:, None], r, stride=1)[:, 0]


def covering(width: int, block_size: int) -> Tensor:
    """(d, d−r+1) indicator that a block at position s covers unit i, float64."""
    offset = torch.arange(width)[:, None] - torch.arange(width - block_size + 1)
    return ((offset >= 0) & (offset < block_size)).double()


def masks(
    settings: Settings, width: int, block_size: int, retain: float, outputs: int, inputs: int
) -> MaskDistribution:
    return OverlappingDropBlock(width, block_size, retain)
