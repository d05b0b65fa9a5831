import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from repro.dropout.distribution import MaskDistribution, Source, drawing
from repro.dropout.structured import Settings
from repro.theory.checks import check_probability, check_vectors
from repro.theory.householder import check_householder, reflected


@dataclass(frozen=True, eq=False, repr=False)
class StructuredGaussian(MaskDistribution):
    """Multiplicative Gaussian noise of covariance C = U diag(α) Uᵀ, U = H_T ⋯ H_1 a product of Householder reflections.

    `centred` is z = 1 + U diag(√α) ε; `rotated` is z = U ξ with ξ ~ N(1, diag α), whose mean m = U1 may have entries
    near 0 or below (masks divided by their mean are then of little use). `retain` is the θ of the Dropout of
    the same mean relative variance. T = 0 is independent noise. Nguyen et al. (NeurIPS 2021).

    Args:
        rates: α, (K,), positive.
        vectors: of the reflections, (T, K), T ≤ K, none zero; H_1 first.
        noise_mean: `centred` or `rotated`.

    Raises:
        ValueError: what is not so.
    """

    rates: Float[Tensor, "..."]
    vectors: Float[Tensor, "..."]
    noise_mean: str = "centred"

    def __post_init__(self) -> None:
        if self.rates.ndim != 1:
            raise ValueError(f"rates must have shape (K,), got {tuple(self.rates.shape)}")
        check_vectors("rates", self.rates)
        if not bool((self.rates > 0).all()):
            raise ValueError(f"rates must be positive, got {float(self.rates.min()):g}")
        if self.vectors.ndim != 2:
            raise ValueError(f"vectors must have shape (T, {len(self.rates)}), got {tuple(self.vectors.shape)}")
        check_householder(self.vectors, len(self.rates))
        if self.noise_mean not in ("centred", "rotated"):
            raise ValueError(f"noise_mean must be centred or rotated, got {self.noise_mean!r}")
        for name in ("rates", "vectors"):
            object.__setattr__(self, name, getattr(self, name).detach().double())

    def __repr__(self) -> str:
        held = hashlib.sha256(self.rates.cpu().numpy().tobytes() + self.vectors.cpu().numpy().tobytes()).hexdigest()
        parts = f"width={self.width}, reflections={len(self.vectors)}, noise_mean={self.noise_mean!r}"
        return f"StructuredGaussian({parts}, values={held[:16]})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StructuredGaussian) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def width(self) -> int:  # type: ignore[override]
        return len(self.rates)

    @property
    def retain(self) -> float:  # type: ignore[override]
        return 1 / (1 + float(self.relative_variance.mean()))

    @cached_property
    def mean(self) -> Tensor:
        ones = torch.ones_like(self.rates)
        return ones if self.noise_mean == "centred" else reflected(ones[None], self.vectors)[0]

    @cached_property
    def rotation(self) -> Float[Tensor, "K K"]:
        """U."""
        return reflected(torch.eye(self.width, dtype=torch.float64, device=self.rates.device), self.vectors).mT

    @cached_property
    def covariance(self) -> Tensor:
        return (self.rotation * self.rates) @ self.rotation.mT

    def with_retain(self, retain: float) -> "StructuredGaussian":
        """The same rotation, all rates scaled alike."""
        check_probability("retain", retain)
        return replace(self, rates=self.rates * ((1 - retain) / retain / (1 / self.retain - 1)))

    def sample(self, count: int, generator: Source, dtype: torch.dtype = torch.float32) -> Tensor:
        noise = torch.randn(count, self.width, dtype=dtype, **drawing(generator))
        return self.mean.to(noise) + reflected(noise * self.rates.sqrt().to(noise), self.vectors.to(noise))


def masks(
    settings: Settings, width: int, block_size: int, retain: float, outputs: int, inputs: int
) -> StructuredGaussian:
    generator = torch.Generator().manual_seed(settings.rotation_seed)
    vectors = torch.randn(settings.reflections, width, generator=generator, dtype=torch.float64)
    rates = settings.spread ** -torch.linspace(0, 1, width, dtype=torch.float64)
    return StructuredGaussian(rates / rates.mean(), vectors, settings.noise_mean).with_retain(retain)
