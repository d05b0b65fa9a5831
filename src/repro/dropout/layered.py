"""Dropout on every hidden layer of a deep network, as one distribution."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from repro.dropout.bernoulli.masks import Bernoulli
from repro.dropout.distribution import Independent, Source
from repro.theory.checks import check_blocks, check_probability


@dataclass(frozen=True)
class LayeredDropout(Independent):
    """z i.i.d. Bernoulli(θ) on the units of all hidden layers, first layer first in one vector of length Σ d_i.

    `widths` are d_1 … d_L, at least one; θ is the same in every layer.
    """

    widths: tuple[int, ...]
    retain: float
    target: Literal["layers"] = "layers"

    def __post_init__(self) -> None:
        if not self.widths:
            raise ValueError("widths must name at least one hidden layer, got none")
        check_probability("retain", self.retain)
        check_blocks(min(self.widths), 1)

    @cached_property
    def layers(self) -> tuple[Bernoulli, ...]:
        """The distribution of each layer's masks."""
        return tuple(Bernoulli(width, self.retain) for width in self.widths)

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(self.widths),)

    def sample(self, count: int, generator: Source, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.cat([layer.sample(count, generator, dtype) for layer in self.layers], -1)
