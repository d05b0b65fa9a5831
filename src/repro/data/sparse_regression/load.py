from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from repro.data.sparse_regression import Settings


class SparseRegression(NamedTuple):
    """y = Xw* + noise, float64."""

    X: Float[Tensor, "samples features"]
    y: Float[Tensor, " samples"]
    truth: Float[Tensor, " features"]


def load(settings: Settings, seed: int = 0) -> SparseRegression:
    """The problem of one seed of a run, as `Settings` says."""
    generator = torch.Generator().manual_seed((1_000_003 * settings.seed + seed) % 2**63)
    X = torch.randn(settings.samples, settings.features, generator=generator, dtype=torch.float64)
    X = X / X.norm(dim=0)
    truth = torch.zeros(settings.features, dtype=torch.float64)
    chosen = torch.randperm(settings.features, generator=generator)[: settings.nonzeros]
    size = 1 + torch.rand(settings.nonzeros, generator=generator, dtype=torch.float64)
    sign = 2.0 * torch.randint(2, (settings.nonzeros,), generator=generator) - 1
    truth[chosen] = size * sign
    noise = settings.noise * torch.randn(settings.samples, generator=generator, dtype=torch.float64)
    return SparseRegression(X, X @ truth + noise, truth)
