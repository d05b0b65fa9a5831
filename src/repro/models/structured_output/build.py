"""Networks of one shape as one batch, each with its two auto-encoders."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from repro.models.structured_output import Settings

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "linear": lambda x: x,
}

Generators = Callable[[int, str], torch.Generator]
"""generator(seed, what is drawn)."""


class Networks:
    """A network a seed, float32; networks of one seed begin alike. Weights are uniform within √(6 / (inputs +
    outputs)) (Glorot, Bengio 2010), biases 0.

    Attributes:
        weights, biases: of the layers, (networks, inputs, outputs) and (networks, 1, outputs).
        input_weights, output_weights: of the auto-encoders; tied, they are the same tensors as the network's.
        back: the biases of what auto-encoders have beside these: of the input's decoder, the first layer's last, and
            of the output's encoder likewise.
    """

    def __init__(
        self, settings: Settings, inputs: int, outputs: int, seeds: Sequence[int], generator: Generators, device: str
    ) -> None:
        self.settings = settings
        sizes = (inputs, *settings.hidden, outputs)
        self.activations = [ACTIVATIONS[name] for name in settings.activations]
        self.weights, self.biases = [], []
        for number, (into, out) in enumerate(pairwise(sizes)):
            reach = (6 / (into + out)) ** 0.5
            drawn = [
                reach * (2 * torch.rand(into, out, generator=generator(seed, f"layer {number}")) - 1) for seed in seeds
            ]
            self.weights.append(torch.stack(drawn).to(device).requires_grad_())
            self.biases.append(torch.zeros(len(seeds), 1, out, device=device, requires_grad=True))
        first, last = settings.input_layers, len(self.weights) - settings.output_layers
        self.back_inputs = [torch.zeros(len(seeds), 1, n, device=device, requires_grad=True) for n in sizes[:first]]
        self.back_outputs = [torch.zeros(len(seeds), 1, n, device=device, requires_grad=True) for n in sizes[last:-1]]
        self.input_weights, self.input_biases = self.weights[:first], self.biases[:first]
        self.output_weights, self.output_biases = self.weights[last:], self.biases[last:]
        if not settings.tied:
            self.input_weights, self.input_biases = _copies(self.input_weights), _copies(self.input_biases)
            self.output_weights, self.output_biases = _copies(self.output_weights), _copies(self.output_biases)
        self._last = last

    def __len__(self) -> int:
        return len(self.weights[0])

    def parameters(self) -> list[Tensor]:
        return [*self.weights, *self.biases]

    def input_parameters(self) -> list[Tensor]:
        """Those of the input's auto-encoder."""
        return [*self.input_weights, *self.input_biases, *self.back_inputs]

    def output_parameters(self) -> list[Tensor]:
        return [*self.output_weights, *self.output_biases, *self.back_outputs]

    def predict(self, x: Float[Tensor, "networks rows inputs"]) -> Float[Tensor, "networks rows outputs"]:
        return self._through(x, self.weights, self.biases, self.activations)

    def reconstruct_inputs(self, x: Float[Tensor, "networks rows inputs"]) -> Float[Tensor, "networks rows inputs"]:
        """Through the first layers and back by their transposes. What comes back as an input is a sigmoid, since
        inputs lie in [0, 1]."""
        first = self.settings.input_layers
        h = self._through(x, self.input_weights, self.input_biases, self.activations[:first])
        back = [torch.sigmoid, *self.activations[: first - 1]]
        return self._through(h, _turned(self.input_weights), self.back_inputs[::-1], back[::-1])

    def reconstruct_outputs(self, y: Float[Tensor, "networks rows outputs"]) -> Float[Tensor, "networks rows outputs"]:
        """Back by the transposes of the last layers, to the hidden layer that they start from, and through them."""
        back = self.activations[self._last - 1 : -1]
        code = self._through(y, _turned(self.output_weights), self.back_outputs[::-1], back[::-1])
        return self._through(code, self.output_weights, self.output_biases, self.activations[self._last :])

    @staticmethod
    def _through(
        x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activations: Sequence[Callable[..., Tensor]]
    ) -> Tensor:
        for weight, bias, activation in zip(weights, biases, activations, strict=True):
            x = activation(torch.baddbmm(bias, x, weight))
        return x


def _turned(weights: Sequence[Tensor]) -> list[Tensor]:
    return [weight.mT for weight in reversed(weights)]


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]
