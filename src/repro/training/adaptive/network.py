"""Many fully connected ReLU networks of one shape as one batch: weights (networks, inputs, outputs)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from repro.training.sweep.noise import seeded_generator

CHUNK = 2000  # images that are evaluated at a time

Layer = Callable[[int, Tensor], Tensor]
"""layer(i, x): what layer i makes of x, (networks, images, inputs) → (networks, images, outputs)."""


@dataclass
class Stack:
    """The parameters of all networks, in float32."""

    weights: list[Tensor]
    biases: list[Tensor]

    def layer(self, number: int, x: Tensor) -> Tensor:
        return torch.baddbmm(self.biases[number], x, self.weights[number])

    def __len__(self) -> int:
        return len(self.weights[0])


def initial(sizes: Sequence[int], seeds: Sequence[int], device: str, normal: float | None = None) -> Stack:
    """One network a seed as `torch.nn.Linear` begins, uniform within 1/√inputs; or weights normal with a standard
    deviation, and biases of 0. Networks of one seed are alike."""
    weights, biases = [], []
    for number, (inputs, width) in enumerate(pairwise(sizes)):
        drawn = []
        for seed in seeds:
            generator = seeded_generator(f"perceptron {seed} {number}")
            if normal is None:
                drawn.append((2 * torch.rand(1 + inputs, width, generator=generator) - 1) / math.sqrt(inputs))
            else:
                weight = normal * torch.randn(inputs, width, generator=generator)
                drawn.append(torch.cat([torch.zeros(1, width), weight]))
        both = torch.stack(drawn).to(device)
        biases.append(both[:, :1].clone())
        weights.append(both[:, 1:].clone())
    return Stack(weights, biases)


def outputs(
    layer: Layer, layers: int, x: Float[Tensor, "networks images inputs"]
) -> Float[Tensor, "networks images c"]:
    for number in range(layers):
        x = layer(number, x if number == 0 else x.relu_())
    return x


def loss(logits: Float[Tensor, "networks images c"], labels: Int[Tensor, "networks images"]) -> Float[Tensor, ""]:
    """The sum over networks of the mean cross-entropy: their gradients do not mix."""
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / labels.shape[1]


@torch.no_grad()
def error(layer: Layer, layers: int, count: int, x: Float[Tensor, "images inputs"], labels: Tensor) -> Tensor:
    """The fraction of images that each network gets wrong, in float64."""
    wrong = torch.zeros(count, dtype=torch.float64, device=x.device)
    for images, classes in zip(x.split(CHUNK), labels.split(CHUNK), strict=True):
        found = outputs(layer, layers, images.expand(count, -1, -1))
        wrong += (found.argmax(-1) != classes).sum(-1)
    return wrong / len(labels)
