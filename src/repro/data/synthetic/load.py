import torch
from jaxtyping import Float
from torch import Tensor

from repro.data.synthetic import Settings


def load(settings: Settings) -> tuple[Float[Tensor, "b N"], Float[Tensor, "a N"]]:
    """X and Y as `Settings` says, where U₀ (a×rank) and √rank · V₀ (b×rank) are standard normal."""
    generator = torch.Generator().manual_seed(settings.seed)

    def normal(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator, dtype=torch.float64)

    features = torch.arange(settings.in_features, dtype=torch.float64)
    covariance = settings.correlation ** (features[:, None] - features).abs()
    X = torch.linalg.cholesky(covariance) @ normal(settings.in_features, settings.samples)
    U, V = normal(settings.out_features, settings.rank), normal(settings.in_features, settings.rank)
    Y = U @ (V.mT @ X) / settings.rank**0.5
    return X, Y + settings.noise * normal(settings.out_features, settings.samples)
