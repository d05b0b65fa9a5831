"""The networks: layers made by whoever says of which kind they are."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from repro.models.variational import Settings
from repro.models.variational.layers import Layer

Make = Callable[[int, int], Layer]
"""A layer of so many inputs and outputs."""


class Network(nn.Module):
    """ReLU between the layers; values (copies, N, features) → (copies, N, outputs)."""

    def __init__(self, widths: list[int], make: Make) -> None:
        super().__init__()
        self.linear = nn.ModuleList([make(a, b) for a, b in pairwise(widths)])

    def layers(self) -> Iterator[Layer]:
        """Those with weights, in order."""
        return (layer for layer in self.modules() if isinstance(layer, Layer))

    def draw_from(self, generator: Generator) -> None:
        """From where all its layers draw."""
        for layer in self.layers():
            layer.generator = generator

    def noisy(self, on: bool) -> None:
        """Whether layers draw, or compute with their means."""
        for layer in self.layers():
            layer.noisy = on

    def forward(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        for layer in self.linear[:-1]:
            values = torch.relu(layer(values))
        return self.linear[-1](values)

    def kl(self) -> Float[Tensor, "..."]:
        """The sum over layers, (copies,)."""
        return torch.stack([layer.kl() for layer in self.layers()]).sum(0)


def build(settings: Settings, inputs: int, outputs: int, make: Make) -> Network:
    """The MLP that `settings` describe, on rows of so many inputs."""
    return Network([inputs, *settings.hidden, outputs], make)
