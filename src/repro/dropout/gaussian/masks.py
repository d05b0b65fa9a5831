from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from repro.dropout.distribution import MaskDistribution, Source, drawing
from repro.dropout.gaussian import Settings


@dataclass(frozen=True)
class CorrelatedGaussian(MaskDistribution):
    """Multiplicative Gaussian noise z ~ N(1, C), C_ij = σ² ρ^|i−j|, of the strength of Dropout at retain θ.

    σ² = (1−θ)/θ is the variance of Dropout's z/θ (Srivastava et al. 2014, section 10); ρ = 0 is their Gaussian
    dropout, ρ > 0 makes neighbouring units fail together as DropBlock does.
    """

    width: int
    retain: float
    correlation: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 < self.correlation < 1:
            raise ValueError(f"correlation = {self.correlation} must lie in (-1, 1)")

    @property
    def mean(self) -> Tensor:
        return torch.ones(self.width, dtype=torch.float64)

    @cached_property
    def covariance(self) -> Tensor:
        units = torch.arange(self.width, dtype=torch.float64)
        return (1 - self.retain) / self.retain * self.correlation ** (units[:, None] - units).abs()

    @cached_property
    def _factor(self) -> Tensor:
        return torch.linalg.cholesky(self.covariance)

    def sample(self, count: int, generator: Source, dtype: torch.dtype = torch.float32) -> Tensor:
        noise = torch.randn(count, self.width, dtype=dtype, **drawing(generator))
        return 1 + noise @ self._factor.to(noise).T


def masks(
    settings: Settings, width: int, block_size: int, retain: float, outputs: int, inputs: int
) -> MaskDistribution:
    return CorrelatedGaussian(width, retain, settings.correlation)
