"""Inputs X and targets Y of the linear experiments, synthetic and real."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from repro.config import DigitHalves, SyntheticData
from repro.data.images import mnist5k
from repro.errors import UserError

# Directions of X whose variance is below this fraction of the largest hold rounding noise only.
RANK_TOLERANCE = 1e-10


class LinearData(NamedTuple):
    """A regression problem, float64, in units in which X and Y have largest singular value 1.

    The unit of Y scales every objective by a constant and the unit of X none; with both fixed, a learning rate
    means the same on any data.
    """

    X: Float[Tensor, "b N"]
    Y: Float[Tensor, "a N"]


@lru_cache(maxsize=1)  # an estimate runs an experiment several times
def load(config: SyntheticData | DigitHalves) -> LinearData:
    """The data that `config` describes.

    Raises:
        UserError: files that are not there or cannot be read; numbers that are not finite, or all equal.
    """
    X, Y = synthetic(config) if isinstance(config, SyntheticData) else digit_halves(config)
    for name, matrix in (("inputs X", X), ("targets Y", Y)):
        if not matrix.isfinite().all():
            raise UserError(f"data: the {name} have values that are not finite")
        if not matrix.any():
            raise UserError(f"data: the {name} do not vary")
    if config.whiten:
        X = whiten(X)
    return LinearData(X / torch.linalg.matrix_norm(X, 2), Y / torch.linalg.matrix_norm(Y, 2))


def synthetic(config: SyntheticData) -> tuple[Float[Tensor, "b N"], Float[Tensor, "a N"]]:
    """X standard normal but for the correlation of its features, Y = U₀V₀ᵀX + noise.

    U₀ (a×rank) and √rank · V₀ (b×rank) are standard normal.
    """
    generator = torch.Generator().manual_seed(config.seed)

    def normal(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator, dtype=torch.float64)

    features = torch.arange(config.in_features, dtype=torch.float64)
    covariance = config.correlation ** (features[:, None] - features).abs()
    X = torch.linalg.cholesky(covariance) @ normal(config.in_features, config.samples)
    U, V = normal(config.out_features, config.rank), normal(config.in_features, config.rank)
    Y = U @ (V.mT @ X) / config.rank**0.5
    return X, Y + config.noise * normal(config.out_features, config.samples)


def digit_halves(config: DigitHalves) -> tuple[Float[Tensor, "b N"], Float[Tensor, "a N"]]:
    """X the upper and Y the lower half of the training digits, 392 pixels each, both centred."""
    images = mnist5k().images if config.source == "mnist5k" else mnist(config.root)
    pixels = images.flatten(1).double().T
    pixels -= pixels.mean(1, keepdim=True)
    return pixels[:392], pixels[392:]


def mnist(root: str | None) -> UInt8[Tensor, "N 28 28"]:
    """MNIST's training images from torchvision's layout, `root`/MNIST/raw/….

    Raises:
        UserError: the files are not there.
    """
    from torchvision.datasets import MNIST

    try:
        found = MNIST(Path(root or "data"), download=False).data
    except Exception as error:
        reason = "" if isinstance(error, RuntimeError) else f", or damaged ones ({error})"
        raise UserError(
            f"data.root={root or 'data'}: holds no MNIST (MNIST/raw/train-images-idx3-ubyte){reason}; "
            "data.source=mnist5k needs no files"
        ) from error
    if found.shape[1:] != (28, 28):
        raise UserError(f"data.root={root or 'data'}: images must be 28 × 28, got {tuple(found.shape[1:])}")
    return found


def whiten(X: Float[Tensor, "b N"]) -> Float[Tensor, "rank N"]:
    """X in an orthonormal basis of its row space: XXᵀ = 1. The closed forms see only that space and do not change."""
    values, vectors = torch.linalg.eigh(X @ X.mT)
    kept = values > RANK_TOLERANCE * values[-1]
    return (vectors[:, kept] / values[kept].sqrt()).mT @ X
