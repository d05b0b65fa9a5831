"""Dropout on every hidden layer of a deep network, as one distribution."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Generator, Tensor

from repro.dropout.masks import Bernoulli, MaskDistribution
from repro.theory.checks import check_blocks, check_probability


@dataclass(frozen=True)
class LayeredDropout(MaskDistribution):
    """z i.i.d. Bernoulli(θ) on the units of all hidden layers, first layer first in one vector of length Σ d_i.

    Args:
        widths: d_1 … d_L.
        retain: θ in (0, 1), the same in every layer.

    Raises:
        ValueError: `retain` outside (0, 1), no width, or one below 1.
    """

    widths: tuple[int, ...]
    retain: float
    target: Literal["layers"] = "layers"

    def __post_init__(self) -> None:
        if not self.widths:
            raise ValueError("widths must name at least one hidden layer, got none")
        check_probability("retain", self.retain)
        for width in self.widths:
            check_blocks(width, 1)

    @cached_property
    def layers(self) -> tuple[Bernoulli, ...]:
        """The distribution of each layer's masks."""
        return tuple(Bernoulli(width, self.retain) for width in self.widths)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (sum(self.widths),)

    @property
    def mean(self) -> Tensor:
        return torch.cat([layer.mean for layer in self.layers])

    @property
    def covariance(self) -> Tensor:
        return torch.block_diag(*(layer.covariance for layer in self.layers))

    def sample(self, count: int, generator: Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.cat([layer.sample(count, generator, dtype) for layer in self.layers], -1)
