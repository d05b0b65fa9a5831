from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from repro.dropout.bernoulli.masks import Bernoulli
from repro.dropout.distribution import MaskDistribution, Source
from repro.dropout.dropblock import Settings
from repro.theory.checks import check_blocks


@dataclass(frozen=True)
class DropBlock(MaskDistribution):
    """Disjoint DropBlock, the form that the paper analyses: z = w ⊗ 1_r with w ∈ {0,1}^{d/r} i.i.d. Bernoulli(θ).

    r = `block_size`, which must divide d; r = 1 is Dropout.
    """

    width: int
    block_size: int
    retain: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.width, self.block_size)

    @cached_property
    def _blocks(self) -> Bernoulli:
        return Bernoulli(self.width // self.block_size, self.retain)

    @property
    def covariance(self) -> Tensor:
        return torch.kron(self._blocks.covariance, torch.ones(self.block_size, self.block_size, dtype=torch.float64))

    def sample(self, count: int, generator: Source, dtype: torch.dtype = torch.float32) -> Tensor:
        return self._blocks.sample(count, generator, dtype).repeat_interleave(self.block_size, -1)

    def sample_moments(self, count: int, size: int, generator: Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        # One draw and one product entry a block instead of r and r².
        mean, second = self._blocks.sample_moments(count, size, generator, dtype)
        r = self.block_size
        return mean.repeat_interleave(r, -1), second.repeat_interleave(r, -1).repeat_interleave(r, -2)


def masks(settings: Settings, width: int, block_size: int, retain: float, outputs: int, inputs: int) -> DropBlock:
    return DropBlock(width, block_size, retain)
