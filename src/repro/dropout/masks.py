"""Mask distributions: every dropout scheme as a random z with an exact mean and covariance.

The deterministic objective of a linear network needs nothing else of a scheme than these two moments
(``repro.theory.expected_objective``), so Dropout, DropBlock, DropConnect and Gaussian noise are instances of
one interface and never branches in the code that trains or measures.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Generator, Tensor
from torch.nn.functional import max_pool1d, pad

from repro.theory.checks import check_blocks, check_probability


class MaskDistribution(ABC):
    """A distribution of multiplicative masks z of shape `shape`, independent of the data.

    `target` says what z multiplies: the `hidden` units (z has shape (d,)), the entries of the factor `U` (a, d)
    or `V` (b, d) of a linear network U Vᵀ X, or the units of all hidden `layers` of a deep one. `retain` is θ: the
    mean probability that an entry is kept, or for continuous noise the θ of the Dropout of equal variance.
    """

    shape: tuple[int, ...]
    retain: float
    target: Literal["hidden", "U", "V", "layers"] = "hidden"

    @property
    @abstractmethod
    def mean(self) -> Float[Tensor, "..."]:
        """E[z], float64, of shape `shape`; every entry is positive."""

    @property
    @abstractmethod
    def covariance(self) -> Float[Tensor, "n n"]:
        """Cov[z] of the flattened mask, float64, n the number of its entries."""

    @abstractmethod
    def sample(self, count: int, generator: Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        """`count` independent masks, (count, *shape), drawn from `generator` on its device."""

    @cached_property
    def relative_covariance(self) -> Float[Tensor, "n n"]:
        """C̄_ij = C_ij / (μ_i μ_j), the covariance of z/μ."""
        mean = self.mean.flatten()
        return self.covariance / torch.outer(mean, mean)

    def sample_normalized(self, count: int, generator: Generator, dtype: torch.dtype) -> Tensor:
        """Masks divided by their mean, z/μ, as the stochastic objective uses them: (count, *shape)."""
        mean = self.mean.to(generator.device, dtype)
        return self.sample(count, generator, dtype) / mean

    def sample_moments(
        self, count: int, size: int, generator: Generator, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "count d"], Float[Tensor, "count d d"]]:
        """Empirical first and second moments of z/μ over `count` independent groups of `size` masks.

        The gradient of the stochastic objective averaged over a group of masks is a function of these two
        alone, which is why a step may average over many masks at almost no cost. Only for masks on hidden
        units.
        """
        masks = self.sample_normalized(count * size, generator, dtype).view(count, size, -1)
        return masks.mean(1), masks.mT @ masks / size


@dataclass(frozen=True)
class Bernoulli(MaskDistribution):
    """Dropout: z_i i.i.d. Bernoulli(θ), i ≤ d.

    Args:
        width: d.
        retain: θ in (0, 1), the probability that a unit is kept.

    Raises:
        ValueError: `retain` outside (0, 1) or `width` below 1.
    """

    width: int
    retain: float

    def __post_init__(self) -> None:
        check_probability("retain", self.retain)
        check_blocks(self.width, 1)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.width,)

    @property
    def mean(self) -> Tensor:
        return torch.full(self.shape, self.retain, dtype=torch.float64)

    @property
    def covariance(self) -> Tensor:
        return self.retain * (1 - self.retain) * torch.eye(self.width, dtype=torch.float64)

    def sample(self, count: int, generator: Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        return _bernoulli((count, self.width), self.retain, generator, dtype)


@dataclass(frozen=True)
class DropBlock(MaskDistribution):
    """Disjoint DropBlock, the form that the paper analyses: z = w ⊗ 1_r with w ∈ {0,1}^{d/r} i.i.d. Bernoulli(θ).

    Args:
        width: d, a multiple of the block size.
        block_size: r; r = 1 is Dropout.
        retain: θ in (0, 1).

    Raises:
        ValueError: `retain` outside (0, 1), or `width` not a multiple of `block_size`.
    """

    width: int
    block_size: int
    retain: float

    def __post_init__(self) -> None:
        check_probability("retain", self.retain)
        check_blocks(self.width, self.block_size)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.width,)

    @property
    def mean(self) -> Tensor:
        return torch.full(self.shape, self.retain, dtype=torch.float64)

    @property
    def covariance(self) -> Tensor:
        blocks = Bernoulli(self.width // self.block_size, self.retain).covariance
        return torch.kron(blocks, torch.ones(self.block_size, self.block_size, dtype=torch.float64))

    def sample(self, count: int, generator: Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        blocks = _bernoulli((count, self.width // self.block_size), self.retain, generator, dtype)
        return blocks.repeat_interleave(self.block_size, -1)

    def sample_moments(self, count: int, size: int, generator: Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        # One draw and one product entry a block instead of r and r².
        blocks = Bernoulli(self.width // self.block_size, self.retain)
        mean, second = blocks.sample_moments(count, size, generator, dtype)
        r = self.block_size
        return mean.repeat_interleave(r, -1), second.repeat_interleave(r, -1).repeat_interleave(r, -2)


@dataclass(frozen=True)
class OverlappingDropBlock(MaskDistribution):
    """The original DropBlock (Ghiasi, Lin and Le 2018) in one dimension: blocks overlap.

    A seed falls on each of the d−r+1 positions with probability γ, and a seed at s drops the units s … s+r−1.
    With S_i the positions that cover unit i: μ_i = (1−γ)^|S_i| and E[z_i z_j] = (1−γ)^|S_i ∪ S_j|. Layers in
    libraries also divide by the fraction kept in each draw, which is not linear in z; here z is divided by its
    mean like every other mask.

    Args:
        width: d.
        block_size: r in 1 … d; it need not divide d.
        retain: the mean probability θ = (1/d) Σ_i μ_i that a unit is kept, in (0, 1); γ follows from it.

    Raises:
        ValueError: `retain` outside (0, 1) or `block_size` outside 1 … d.
    """

    width: int
    block_size: int
    retain: float

    def __post_init__(self) -> None:
        check_probability("retain", self.retain)
        if not 1 <= self.block_size <= self.width:
            raise ValueError(f"block_size = {self.block_size} must lie in 1 … width = {self.width}")

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.width,)

    @cached_property
    def _covering(self) -> Tensor:
        """(d, d−r+1) indicator that a seed at position s drops unit i."""
        offset = torch.arange(self.width)[:, None] - torch.arange(self.width - self.block_size + 1)
        return ((offset >= 0) & (offset < self.block_size)).double()

    @cached_property
    def seed_probability(self) -> float:
        """γ, the root of (1/d) Σ_i (1−γ)^|S_i| = θ; the left side falls from 1 to 0 over γ ∈ [0, 1]."""
        covers = self._covering.sum(1)
        return float(brentq(lambda g: float(((1 - g) ** covers).mean()) - self.retain, 0.0, 1.0, xtol=1e-16))

    @cached_property
    def mean(self) -> Tensor:
        return (1 - self.seed_probability) ** self._covering.sum(1)

    @cached_property
    def covariance(self) -> Tensor:
        shared = self._covering @ self._covering.T
        sizes = self._covering.sum(1)
        union = sizes[:, None] + sizes - shared
        return (1 - self.seed_probability) ** union - torch.outer(self.mean, self.mean)

    def sample(self, count: int, generator: Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        positions = self.width - self.block_size + 1
        seeds = _bernoulli((count, positions), self.seed_probability, generator, dtype)
        r = self.block_size
        return 1 - max_pool1d(pad(seeds, (r - 1, r - 1))[:, None], r, stride=1)[:, 0]


@dataclass(frozen=True)
class DropConnect(MaskDistribution):
    """DropConnect: z i.i.d. Bernoulli(θ) on the entries of a factor (rows, d) of the linear network.

    Args:
        rows: a for masks on U, b for masks on V.
        width: d.
        retain: θ in (0, 1).
        target: the factor that is masked, `U` or `V`.

    Raises:
        ValueError: `retain` outside (0, 1).
    """

    rows: int
    width: int
    retain: float
    target: Literal["U", "V"] = "U"

    def __post_init__(self) -> None:
        check_probability("retain", self.retain)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.rows, self.width)

    @property
    def mean(self) -> Tensor:
        return torch.full(self.shape, self.retain, dtype=torch.float64)

    @property
    def covariance(self) -> Tensor:
        return self.retain * (1 - self.retain) * torch.eye(self.rows * self.width, dtype=torch.float64)

    def sample(self, count: int, generator: Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        return _bernoulli((count, self.rows, self.width), self.retain, generator, dtype)


@dataclass(frozen=True)
class CorrelatedGaussian(MaskDistribution):
    """Multiplicative Gaussian noise z ~ N(1, C), C_ij = σ² ρ^|i−j|, of the strength of Dropout at retain θ.

    σ² = (1−θ)/θ is the variance of Dropout's z/θ (Srivastava et al. 2014, section 10); ρ = 0 is their Gaussian
    dropout, ρ > 0 makes neighbouring units fail together as DropBlock does.

    Args:
        width: d.
        retain: θ in (0, 1).
        correlation: ρ in (−1, 1).

    Raises:
        ValueError: `retain` outside (0, 1) or `correlation` outside (−1, 1).
    """

    width: int
    retain: float
    correlation: float = 0.0

    def __post_init__(self) -> None:
        check_probability("retain", self.retain)
        if not -1 < self.correlation < 1:
            raise ValueError(f"correlation = {self.correlation} must lie in (-1, 1)")

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.width,)

    @property
    def mean(self) -> Tensor:
        return torch.ones(self.width, dtype=torch.float64)

    @cached_property
    def covariance(self) -> Tensor:
        units = torch.arange(self.width, dtype=torch.float64)
        variance = (1 - self.retain) / self.retain
        return variance * self.correlation ** (units[:, None] - units).abs()

    @cached_property
    def _factor(self) -> Tensor:
        return torch.linalg.cholesky(self.covariance)

    def sample(self, count: int, generator: Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        noise = torch.randn(count, self.width, generator=generator, device=generator.device, dtype=dtype)
        return 1 + noise @ self._factor.to(noise).T


def _bernoulli(shape: tuple[int, ...], retain: float, generator: Generator, dtype: torch.dtype) -> Tensor:
    # Uniforms are compared in float32 whatever the dtype of the masks, so that the same generator gives the
    # same masks in float32 and float64.
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    return (uniform < retain).to(dtype)
