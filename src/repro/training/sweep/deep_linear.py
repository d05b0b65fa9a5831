"""Deep linear networks W_{L+1} W_L ⋯ W_1 X with dropout on every hidden layer: what masks do, and the solver.

What a hidden layer holds has the second moment K = E[hhᵀ], summed over samples, which masks of second moment
S = E[z̃z̃ᵀ], z̃ = z/θ, turn into S ∘ K and the next layer into W (S ∘ K) Wᵀ; backwards Q ← S ∘ (Wᵀ Q W) is what a
layer's moment is weighted with at the output. With D = diag(E[z̃]) the gradient of E‖Y − W_{L+1}D_L⋯D_1W_1X‖² is

    ∇_{W_i} = 2 Q_i W_i (S_{i−1} ∘ K_{i−1}) − 2 (the gradient of ⟨YXᵀ, W_{L+1}D_L⋯D_1W_1⟩).

The exact moments S = 1 + λI, D = I give deterministic training; the moments of m sampled masks a layer give SGD,
averaged over all mᴸ combinations of one mask from each layer: unbiased, and for m = 1 a plain pass through a masked
network. As in `repro.training.sweep.noise`, data enter only through XXᵀ and YXᵀ, and a step costs the same for any m.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from repro.dropout.layered import LayeredDropout
from repro.training.sweep.noise import CHUNK_NUMBERS, Cell, Problem, seeded_generator
from repro.training.sweep.solver import minimise

# Root-mean-square gain of each weight where the solver starts: small, see `repro.training.sweep.solver.START`.
START = 0.7
# Steps that follow the solver's last line search.
POLISHING = 100

# Masks that a measurement sends through a network at a time: what they make of it stays in a core's cache.
MASKS_AT_ONCE = 512


class LayerNoise:
    """The masks of a batch of cells of equal widths; weights W_i are (cells, d_i, d_{i−1}), i = 1 … L+1.

    Attributes:
        amplification: Π_i (1 + λ_i/m), by how much m masks a layer raise the curvature that a step sees, (cells,).
    """

    def __init__(self, problem: Problem, cells: Sequence[Cell], masks_per_step: int = 1) -> None:
        self.problem, self.cells, self.masks_per_step = problem, cells, masks_per_step
        self._masks = [_layered(cell) for cell in cells]
        self.widths = self._masks[0].widths
        if any(masks.widths != self.widths for masks in self._masks):
            raise ValueError(f"the cells of one sweep must have one list of widths, got {self._masks}")
        rates = torch.tensor([(1 - masks.retain) / masks.retain for masks in self._masks])
        self.amplification = ((1 + rates / masks_per_step) ** len(self.widths)).to(problem.gram)
        layers = range(len(self.widths))
        self._first = [torch.ones(len(cells), width, 1).to(problem.gram) for width in self.widths]
        self._second = [
            torch.stack([1 + masks.layers[i].relative_covariance for masks in self._masks]).to(problem.gram)
            for i in layers
        ]
        self._chunk = max(1, CHUNK_NUMBERS // sum(width**2 for width in self.widths))
        self._generators = [cell.generator("masks", problem.gram.device) for cell in cells]
        self._moments = self._draw()

    def objective(self, *weights: Tensor) -> Float[Tensor, " cells"]:
        """The deterministic objective ‖Y − WX‖² + R."""
        moment = weights[0] @ self.problem.gram @ weights[0].mT
        product = weights[0]
        for weight, second in zip(weights[1:], self._second, strict=True):
            moment = weight @ (second * moment) @ weight.mT
            product = weight @ product
        fit = (self.problem.cross * product).sum((-2, -1))
        return self.problem.energy - 2 * fit + moment.diagonal(dim1=1, dim2=2).sum(-1)

    def expected_gradient(self, *weights: Tensor) -> list[Tensor]:
        """The gradient of `objective`."""
        return self._gradient(weights, self._first, self._second)[1]

    def expected_value_and_gradient(self, *weights: Tensor) -> tuple[Float[Tensor, " cells"], list[Tensor]]:
        """`objective` and its gradient."""
        return self._gradient(weights, self._first, self._second)

    def sampled_gradient(self, *weights: Tensor) -> list[Tensor]:
        """The stochastic gradient averaged over the step's masks; each call takes the next masks."""
        return self._gradient(weights, *next(self._moments))[1]

    def sampled_regularizer(
        self, weights: Sequence[Tensor], generators: Sequence[Generator], count: int
    ) -> Float[Tensor, "cells count"]:
        """‖ŴX − WX‖² of `count` masked networks Ŵ a cell, whose mean is R: every mask is a pass through its network."""
        root = root_of(self.problem.gram)
        return torch.stack(
            [
                _deviations([weight[i] for weight in weights], root, self._masks[i], generators[i], count)
                for i in range(len(self.cells))
            ]
        )

    def _draw(self) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """The moments of the masks of one step after another, a layer: first (cells, d, 1) and second (cells, d, d)."""
        while True:
            chunks = []
            for i in range(len(self.widths)):
                draws = [
                    masks.layers[i].sample_moments(self._chunk, self.masks_per_step, generator, self.problem.gram.dtype)
                    for masks, generator in zip(self._masks, self._generators, strict=True)
                ]
                chunks.append([torch.stack(moments, 1) for moments in zip(*draws, strict=True)])
            for step in range(self._chunk):
                yield [first[step, ..., None] for first, _ in chunks], [second[step] for _, second in chunks]

    def _gradient(
        self, weights: Sequence[Tensor], first: list[Tensor], second: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        inputs = [weights[0] @ self.problem.gram]  # W_i (S ∘ K) on the way forward
        products = [first[0] * weights[0]]  # D_i W_i ⋯ D_1 W_1
        for i, weight in enumerate(weights[1:]):
            inputs.append(weight @ (second[i] * (inputs[-1] @ weights[i].mT)))
            if i + 1 < len(first):
                products.append(first[i + 1] * (weight @ products[-1]))
        signal = self.problem.cross @ products[-1].mT
        value = self.problem.energy + ((inputs[-1] - 2 * signal) * weights[-1]).sum((-2, -1))
        gradients = [2 * (inputs[-1] - signal)]
        moment = second[-1] * (weights[-1].mT @ weights[-1])  # Q
        signal = first[-1] * (weights[-1].mT @ self.problem.cross)  # (W_{L+1}D_L ⋯ W_{i+1}D_i)ᵀ YXᵀ
        for i in range(len(first) - 1, 0, -1):
            gradients.append(2 * (moment @ inputs[i] - signal @ products[i - 1].mT))
            moment = second[i - 1] * (weights[i].mT @ moment @ weights[i])
            signal = first[i - 1] * (weights[i].mT @ signal)
        gradients.append(2 * (moment @ inputs[0] - signal))
        return value, gradients[::-1]


def root_of(gram: Float[Tensor, "b b"]) -> Float[Tensor, "b b"]:
    """Z with ZZᵀ = XXᵀ: what X is to any function of second moments, without its N columns."""
    values, vectors = torch.linalg.eigh(gram)
    return vectors * values.clamp_min(0).sqrt()


def initial_weights(problem: Problem, cells: Sequence[Cell], scale: float) -> tuple[Float[Tensor, "cells _ _"], ...]:
    """Gaussian weights; cells of one seed and shape start in the same direction.

    Without dropout a weight has a largest singular value of about 2 `scale` at most. With it the
    product of all shrinks by θ^{L/2}, so that every cell starts with a penalty of about the same size.

    Returns:
        W_1 … W_{L+1} in float64 on the CPU.
    """
    a, b = problem.cross.shape
    draws = []
    for cell in cells:
        masks = _layered(cell)
        generator = seeded_generator(f"initialisation {cell.seed}")
        sizes = [b, *masks.widths, a]
        share = scale * masks.retain ** (len(masks.widths) / 2 / (len(sizes) - 1))
        draws.append(
            [
                torch.randn(rows, columns, generator=generator, dtype=torch.float64)
                * share
                / math.sqrt(max(rows, columns))
                for columns, rows in pairwise(sizes)
            ]
        )
    return tuple(torch.stack(weights) for weights in zip(*draws, strict=True))


@dataclass(frozen=True)
class DeepSolution:
    """A minimum of the deterministic objective.

    Attributes:
        objective: its value, with the part of ‖Y‖² that no network can fit.
        singular_values: of WX, decreasing, one for each singular value of the target.
        point: the weights, one after another: a `start` for `solve` at another rate.
    """

    objective: float
    singular_values: Float[Tensor, " n"]
    point: Float[np.ndarray, " weights"]


def solve(
    target: Float[Tensor, " n"],
    residual: float,
    widths: Sequence[int],
    retain: float,
    seed: int,
    start: Float[np.ndarray, " weights"] | None = None,
) -> DeepSolution:
    """Minimise the deterministic objective over all weights by L-BFGS, to the last digits.

    In coordinates in which X is whitened and YX⁺X is diag(m), and from a small start, as `repro.training.sweep.solver`.

    Args:
        target: m, the singular values of YX⁺X (`repro.theory.target_spectrum`).
        residual: ‖Y − YX⁺X‖²_F.
        widths: d_1 … d_L.
        retain: θ.
        seed: of the random start.
        start: weights to start from instead.
    """
    n = len(target)
    problem = Problem(torch.eye(n, dtype=torch.float64), target.double().diag(), float(target.square().sum()))
    cells = [Cell(LayeredDropout(tuple(widths), retain), seed)]
    noise, random = LayerNoise(problem, cells), initial_weights(problem, cells, START)

    def weights_of(flat: np.ndarray) -> list[Tensor]:
        parts = torch.from_numpy(flat).split([weight.numel() for weight in random])
        return [part.view(weight.shape) for part, weight in zip(parts, random, strict=True)]

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradients = noise.expected_value_and_gradient(*weights_of(flat))
        return value.item(), torch.cat([part.flatten() for part in gradients]).numpy()

    if start is None:
        start = torch.cat([weight.flatten() for weight in random]).numpy()
    point, value, _ = minimise(value_and_gradient, start)
    point = _polished(lambda flat: value_and_gradient(flat)[1], point)
    return DeepSolution(value + residual, singular_values(weights_of(point))[0], point)


def _polished(gradient: Callable[[np.ndarray], np.ndarray], point: np.ndarray) -> np.ndarray:
    """The minimum near `point` by Barzilai and Borwein's steps (1988), which look at gradients alone.

    A line search sees no descent once the objective is exact, when the point is so to the root of that only.
    """
    here = gradient(point)
    best, least, step = point, np.linalg.norm(here), 1e-3
    for _ in range(POLISHING):
        there = point - step * here
        after = gradient(there)
        moved, turned = there - point, after - here
        if not (curvature := moved @ turned) > 0:
            break
        point, here, step = there, after, (moved @ moved) / curvature
        if (size := np.linalg.norm(here)) < least:
            best, least = point, size
    return best


def singular_values(weights: Sequence[Tensor], root: Tensor | None = None) -> Float[Tensor, "cells n"]:
    """The singular values of WX from `root_of` XXᵀ (1 where left out), decreasing, (cells, min(a, b)).

    Through QR of the thin ends, so that a decomposition has the size of a hidden layer.
    """
    first, last = weights[0] if root is None else weights[0] @ root, weights[-1]
    count = min(last.shape[-2], first.shape[-1])
    middle = torch.linalg.qr(first.mT)[1].mT
    for weight in weights[1:-1]:
        middle = weight @ middle
    found = torch.linalg.svdvals(torch.linalg.qr(last)[1] @ middle)[..., :count]
    return torch.nn.functional.pad(found, (0, count - found.shape[-1]))


def _deviations(
    weights: Sequence[Tensor], root: Tensor, masks: LayeredDropout, generator: Generator, count: int
) -> Float[Tensor, " count"]:
    """‖ŴX − WX‖² of `count` masked copies Ŵ of one network, each a pass of X through it.

    Of the thin ends W_1 X and W_{L+1} their QR's small factors do: neither changes a Frobenius norm.
    """
    entry = torch.linalg.qr((weights[0] @ root).mT)[1].mT  # (d_1, ·)
    exit = torch.linalg.qr(weights[-1])[1]  # (·, d_L)
    columns = entry.shape[1]
    plain = entry
    for weight in weights[1:-1]:
        plain = weight @ plain
    found = []
    for size in (MASKS_AT_ONCE,) * (count // MASKS_AT_ONCE) + (count % MASKS_AT_ONCE,):
        drawn = masks.sample_normalized(size, generator, entry.dtype).T.split(masks.widths)
        hidden = entry[:, None] * drawn[0][:, :, None]  # (d, masks, columns)
        for weight, mask in zip(weights[1:-1], drawn[1:], strict=True):
            hidden = (weight @ hidden.flatten(1)).view(len(weight), size, columns) * mask[:, :, None]
        deviation = exit @ (hidden - plain[:, None]).flatten(1)
        found.append(deviation.view(len(exit), size, columns).square().sum((0, 2)))
    return torch.cat(found)


def _layered(cell: Cell) -> LayeredDropout:
    if not isinstance(cell.masks, LayeredDropout):
        raise ValueError(f"a deep linear network needs masks on its layers, got {cell.masks}")
    return cell.masks
