"""What needs no network: the mean output, ridge regression, and that within the outputs' principal components."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from repro.data.pairs import Choice, Pairs, Part

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
COMPONENTS = (1, 2, 4, 8, 16, 32, 64)

Errors = Callable[[Float[Tensor, "*batch m"], Float[Tensor, "*batch m"]], Float[Tensor, "*batch"]]
"""errors(predicted, true) of each instance."""


def predicted(data: Pairs, known: Choice, errors: Errors) -> dict[str, Float[Tensor, "test m"]]:
    """Predictions of the test outputs, float64; penalty and number of components are those of the least validation
    error. Components are of all outputs that are known, with an input or without."""
    x, y = data.train.inputs[known.pairs].double(), data.train.outputs[known.pairs].double()
    true = data.validation.outputs.double()
    U, S, V = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    target = U.mT @ (y - y.mean(0))

    def ridge(part: Part, penalty: float) -> Tensor:
        shrunk = (S / (S.square() + penalty))[:, None] * target
        return y.mean(0) + (part.inputs.double() - x.mean(0)) @ (V.mT @ shrunk)

    every = data.train.outputs[torch.cat([known.pairs, known.outputs])].double()
    axes = principal(every)

    def within(prediction: Tensor, count: int) -> Tensor:
        return every.mean(0) + (prediction - every.mean(0)) @ axes[:count].mT @ axes[:count]

    def error(prediction: Tensor) -> float:
        return float(errors(prediction, true).mean())

    tried = {penalty: ridge(data.validation, penalty) for penalty in PENALTIES}
    best = min(tried, key=lambda penalty: error(tried[penalty]))
    both = [(penalty, count) for penalty in PENALTIES for count in COMPONENTS if count <= len(axes)]
    penalty, count = min(both, key=lambda pair: error(within(tried[pair[0]], pair[1])))
    return {
        "mean": y.mean(0).expand(len(data.test.outputs), -1),
        "ridge": ridge(data.test, best),
        "components": within(ridge(data.test, penalty), count),
    }


def principal(outputs: Float[Tensor, "N m"]) -> Float[Tensor, "axes m"]:
    """Directions of largest variance, orthonormal, the largest first."""
    centred = outputs.double() - outputs.double().mean(0)
    values, vectors = torch.linalg.eigh(centred.mT @ centred)
    return vectors[:, values > 1e-10 * values[-1]].mT.flip(0)


class Subspace:
    """The fewest principal components that hold `share` of the variance of some outputs."""

    def __init__(self, outputs: Float[Tensor, "N m"], share: float = 0.95) -> None:
        self._mean = outputs.double().mean(0)
        axes = principal(outputs)
        variance = ((outputs.double() - self._mean) @ axes.mT).square().sum(0)
        count = int((variance.cumsum(0) < share * variance.sum()).sum()) + 1
        self.axes = axes[:count]

    def distance(self, outputs: Float[Tensor, "*batch N m"]) -> Float[Tensor, "*batch"]:
        """The root mean square of what lies outside, over instances and dimensions."""
        centred = outputs.double() - self._mean
        outside = centred.square().sum(-1) - (centred @ self.axes.mT).square().sum(-1)  # by Pythagoras
        return (outside.mean(-1).clamp(min=0) / centred.shape[-1]).sqrt()
