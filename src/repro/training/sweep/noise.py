"""What masks do to the objective of a batch of linear networks: exact, sampled, and in expectation.

For masks on the hidden units, z̃ = z/E[z], averaged over the masks of a step, the gradient of
‖Y − U diag(z̃) VᵀX‖² needs the empirical moments D = mean(z̃) and S = mean(z̃z̃ᵀ) alone:

    ∇_U = 2 U (S ∘ VᵀXXᵀV) − 2 YXᵀV diag(D),     ∇_V = 2 XXᵀV (S ∘ UᵀU) − 2 XYᵀU diag(D),

so that a step costs the same for any number of masks. With the exact moments D = 1, S = 1 + C̄ in their place
it is the gradient of the deterministic objective: stochastic and deterministic training differ in the moments.

Neither masks on the hidden units nor SGD notice which orthogonal bases outputs and inputs are written in. In those of
the singular vectors of YXᵀ (`Problem.turned`) its products are scalings, which saves a third of a step's work or more.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from repro.dropout.distribution import MaskDistribution

# Masks are drawn ahead, for as many steps at a time as keep the d×d moments of one cell within this many numbers.
# It must not depend on the other cells: how a generator's stream is cut into draws may change the draws.
CHUNK_NUMBERS = 2**17


@dataclass(frozen=True)
class Problem:
    """What a linear network sees of its data.

    Attributes:
        gram: XXᵀ, (b, b).
        cross: YXᵀ, (a, b).
        energy: ‖Y‖²_F.
        signal: the diagonal of `cross` where it is known to be diagonal.
    """

    gram: Float[Tensor, "b b"]
    cross: Float[Tensor, "a b"]
    energy: float
    signal: Float[Tensor, " min(a,b)"] | None = None

    @classmethod
    def from_data(cls, X: Float[Tensor, "b N"], Y: Float[Tensor, "a N"]) -> "Problem":
        """The moments of the data, accumulated in the precision of X and Y."""
        return cls(X @ X.mT, Y @ X.mT, float(Y.square().sum()))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Problem":
        signal = None if self.signal is None else self.signal.to(device, dtype)
        return Problem(self.gram.to(device, dtype), self.cross.to(device, dtype), self.energy, signal)

    def placed(self, device: torch.device | str, dtype_name: Literal["float32", "float64"]) -> "Problem":
        """`to`, the precision by the name that a configuration has for it."""
        return self.to(device, getattr(torch, dtype_name))

    def turned(self) -> tuple["Problem", Float[Tensor, "a a"], Float[Tensor, "b b"]]:
        """The problem of QᵀY and PᵀX whose `cross` QᵀYXᵀP is diagonal, and the orthogonal Q and P, in float64.

        A network U Vᵀ X is there (QᵀU)(PᵀV)ᵀ.
        """
        Q, signal, P = torch.linalg.svd(self.cross.double())
        P = P.mT
        cross = torch.zeros_like(self.cross)
        cross.diagonal().copy_(signal)
        gram = (P.mT @ self.gram.double() @ P).to(self.gram)
        return Problem(gram, cross, self.energy, signal.to(self.cross)), Q, P


@dataclass(frozen=True)
class Cell:
    """One network of a sweep.

    Attributes:
        masks: the distribution of its dropout masks.
        seed: the seed of its initialisation and its masks.
    """

    masks: MaskDistribution
    seed: int

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> Generator:
        """A generator for one purpose (`masks`, `measurement`) that belongs to this cell alone."""
        return seeded_generator(f"{purpose} {self.seed} {self.masks!r}", device)


def seeded_generator(key: str, device: torch.device | str = "cpu") -> Generator:
    """A generator seeded by a hash of `key`: streams of different keys are unrelated."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    return Generator(device).manual_seed(seed)


@runtime_checkable
class Gradients(Protocol):
    """What SGD asks of the masks, for networks of any number of factors: `Noise`, and noise on deeper networks."""

    @property
    def amplification(self) -> Tensor: ...
    @property
    def expected_gradient(self) -> Callable[..., Sequence[Tensor]]: ...
    @property
    def sampled_gradient(self) -> Callable[..., Sequence[Tensor]]: ...


@runtime_checkable
class Noise(Protocol):
    """The masks of a batch of cells at work on one problem; tensors have the problem's device and dtype."""

    amplification: Float[Tensor, " cells"]
    """1 + max_i C̄_ii / m: by how much m averaged masks raise the curvature that a step sees."""

    def objective(self, U: Tensor, V: Tensor) -> Float[Tensor, " cells"]:
        """The deterministic objective, the exact expectation over the masks."""
        ...

    def sampled_objective(
        self, U: Tensor, V: Tensor, generators: Sequence[Generator], count: int
    ) -> Float[Tensor, "cells count"]:
        """The stochastic objective ‖Y − (masked network) X‖² of `count` masks a cell."""
        ...

    def expected_gradient(self, U: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of `objective`."""
        ...

    def sampled_gradient(self, U: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
        """The stochastic gradient averaged over the step's masks; each call takes the next masks."""
        ...


def noise_of(problem: Problem, cells: Sequence[Cell], masks_per_step: int = 1) -> Noise:
    """The noise of cells that all mask the same target.

    Raises:
        ValueError: the cells mask different targets, or one that is not of a network U Vᵀ X.
    """
    target = one_target(cells)
    if target not in ("hidden", "U", "V"):
        raise ValueError(f"masks must act on hidden, U or V, got {target}")
    return (HiddenNoise if target == "hidden" else WeightNoise)(problem, cells, masks_per_step)


def one_target(cells: Sequence[Cell]) -> str:
    """What the masks of all cells act on.

    Raises:
        ValueError: the cells mask different targets.
    """
    targets = {cell.masks.target for cell in cells}
    if len(targets) != 1:
        raise ValueError(f"the cells of one sweep must mask one target, got {sorted(targets)}")
    return targets.pop()


class HiddenNoise:
    """Masks on the hidden units: U diag(z̃) Vᵀ X."""

    def __init__(self, problem: Problem, cells: Sequence[Cell], masks_per_step: int) -> None:
        self.problem, self.cells, self.masks_per_step = problem, cells, masks_per_step
        covariance = torch.stack([cell.masks.relative_covariance for cell in cells])
        width = covariance.shape[-1]
        self.amplification = _amplification(covariance.diagonal(dim1=1, dim2=2), masks_per_step).to(problem.gram)
        self._expected_first = torch.ones(len(cells), width, 1).to(problem.gram)
        self._expected_second = (1 + covariance).to(problem.gram)
        self._chunk = max(1, CHUNK_NUMBERS // width**2)
        self._generators = [cell.generator("masks", problem.gram.device) for cell in cells]
        self._moments = self._draw()
        if problem.signal is not None:
            # What `_signal` writes over at each step; beyond the diagonal of `cross` it stays 0.
            a, b = (torch.zeros(len(cells), width, size).to(problem.gram) for size in problem.cross.shape)
            self._signals = a, b

    def objective(self, U: Tensor, V: Tensor) -> Tensor:
        weights = (U.mT @ U) * (V.mT @ (self.problem.gram @ V))
        fit = 2 * (U * (self.problem.cross @ V)).sum((-2, -1))
        return self.problem.energy - fit + (self._expected_second * weights).sum((-2, -1))

    def sampled_objective(self, U: Tensor, V: Tensor, generators: Sequence[Generator], count: int) -> Tensor:
        linear = (U * (self.problem.cross @ V)).sum(-2)
        quadratic = (U.mT @ U) * (V.mT @ (self.problem.gram @ V))
        losses = []
        for cell, generator, line, square in zip(self.cells, generators, linear, quadratic, strict=True):
            masks = cell.masks.sample_normalized(count, generator, U.dtype)
            losses.append(self.problem.energy - 2 * masks @ line + ((masks @ square) * masks).sum(-1))
        return torch.stack(losses)

    def expected_gradient(self, U: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
        return self._gradient(U, V, self._expected_first, self._expected_second)

    def sampled_gradient(self, U: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
        return self._gradient(U, V, *next(self._moments))

    def _draw(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The moments of the masks of one step after another, first (cells, d, 1) and second (cells, d, d)."""
        while True:
            draws = [
                cell.masks.sample_moments(self._chunk, self.masks_per_step, generator, self.problem.gram.dtype)
                for cell, generator in zip(self.cells, self._generators, strict=True)
            ]
            first, second = (torch.stack(moments, 1) for moments in zip(*draws, strict=True))
            yield from zip(first[..., None], second, strict=True)

    def _gradient(self, U: Tensor, V: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        # On the transposes (cells, d, ·) the products with XXᵀ and YXᵀ, shared by all cells, are one matrix
        # product each. The second moment and both Gram matrices are symmetric.
        U, V = U.mT, V.mT
        gram_V = V @ self.problem.gram
        weights_U = (V @ gram_V.mT).mul_(second)
        weights_V = (U @ U.mT).mul_(second)
        signal_U, signal_V = self._signal(U, V, first)
        gradient_U = torch.baddbmm(signal_U, weights_U, U, beta=-2, alpha=2)
        gradient_V = torch.baddbmm(signal_V, weights_V, gram_V, beta=-2, alpha=2)
        return gradient_U.mT, gradient_V.mT

    def _signal(self, U: Tensor, V: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """(YXᵀV diag(D))ᵀ and (XYᵀU diag(D))ᵀ from Uᵀ and Vᵀ."""
        if self.problem.signal is None:
            return (V @ self.problem.cross.mT).mul_(first), (U @ self.problem.cross).mul_(first)
        n = len(self.problem.signal)
        scale = first * self.problem.signal
        for signal, other in zip(self._signals, (V, U), strict=True):
            torch.mul(other[..., :n], scale, out=signal[..., :n])
        return self._signals


class WeightNoise:
    """DropConnect, masks on the entries of one factor: (Z̃ ∘ U) Vᵀ X or U (Z̃ ∘ V)ᵀ X.

    Entries are independent, so the deterministic objective adds to the data fit the variances of the entries:
    Σ_ji C̄_ji u_ji² ‖Xᵀv_i‖² on U, and Σ_ji C̄_ji v_ji² (XXᵀ)_jj ‖u_i‖² on V.
    """

    def __init__(self, problem: Problem, cells: Sequence[Cell], masks_per_step: int) -> None:
        self.problem, self.cells, self.masks_per_step = problem, cells, masks_per_step
        self.on_U = cells[0].masks.target == "U"
        variance = torch.stack([cell.masks.relative_variance for cell in cells])
        self._variance = variance.to(problem.gram)
        self.amplification = _amplification(variance.flatten(1), masks_per_step).to(problem.gram)
        self._generators = [cell.generator("masks", problem.gram.device) for cell in cells]

    def objective(self, U: Tensor, V: Tensor) -> Tensor:
        gram_V = self.problem.gram @ V
        if self.on_U:
            penalty = (self._variance * U.square()).sum(-2) * (V * gram_V).sum(-2)
        else:
            power = self.problem.gram.diagonal()[:, None]
            penalty = (self._variance * V.square() * power).sum(-2) * U.square().sum(-2)
        return self._loss(U, V) + penalty.sum(-1)

    def sampled_objective(self, U: Tensor, V: Tensor, generators: Sequence[Generator], count: int) -> Tensor:
        losses = []
        for cell, generator, u, v in zip(self.cells, generators, U, V, strict=True):
            masks = cell.masks.sample_normalized(count, generator, U.dtype)
            losses.append(self._loss(masks * u, v) if self.on_U else self._loss(u, masks * v))
        return torch.stack(losses)

    def expected_gradient(self, U: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaves = U.detach().requires_grad_(), V.detach().requires_grad_()
            gradient_U, gradient_V = torch.autograd.grad(self.objective(*leaves).sum(), leaves)
        return gradient_U, gradient_V

    def sampled_gradient(self, U: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
        masks = torch.stack(
            [
                cell.masks.sample_normalized(self.masks_per_step, generator, U.dtype)
                for cell, generator in zip(self.cells, self._generators, strict=True)
            ],
            1,
        )
        U, V = (masks * U, V) if self.on_U else (U, masks * V)
        gram_V = self.problem.gram @ V
        gradient_U = 2 * (U @ (V.mT @ gram_V) - self.problem.cross @ V)
        gradient_V = 2 * (gram_V @ (U.mT @ U) - self.problem.cross.mT @ U)
        if self.on_U:
            return (gradient_U * masks).mean(0), gradient_V.mean(0)
        return gradient_U.mean(0), (gradient_V * masks).mean(0)

    def _loss(self, U: Tensor, V: Tensor) -> Tensor:
        fit = 2 * (U * (self.problem.cross @ V)).sum((-2, -1))
        return self.problem.energy - fit + ((U.mT @ U) * (V.mT @ (self.problem.gram @ V))).sum((-2, -1))


def _amplification(variance: Tensor, masks_per_step: int) -> Tensor:
    return 1 + variance.amax(-1) / masks_per_step
