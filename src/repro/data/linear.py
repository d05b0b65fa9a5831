"""Inputs X and targets Y of the linear experiments."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from repro.data.settings import LinearSettings
from repro.pipeline.settings import bound, implementation
from repro.pipeline.system.errors import UserError

# Directions of X whose variance is below this fraction of the largest hold rounding noise only.
RANK_TOLERANCE = 1e-10


class LinearData(NamedTuple):
    """A regression problem, float64, in units in which X and Y have largest singular value 1.

    The unit of Y scales every objective by a constant and the unit of X none; with both fixed, a learning rate
    means the same on any data.
    """

    X: Float[Tensor, "b N"]
    Y: Float[Tensor, "a N"]


def load(settings: LinearSettings) -> LinearData:
    """The data that `settings` describe.

    Raises:
        UserError: files that are not there or cannot be read; numbers that are not finite, or all equal; of a user's
            module no `load`, or one that returns no X and Y.
    """
    return _load(settings, tuple(settings.content.items()))


@lru_cache(maxsize=1)  # an estimate runs an experiment several times
def _load(settings: LinearSettings, content: tuple[tuple[str, str], ...]) -> LinearData:
    found = bound(implementation(settings, "load"), settings)()
    try:
        X, Y = (torch.as_tensor(matrix, dtype=torch.float64) for matrix in cast(Iterable[Tensor], found))
    except (TypeError, ValueError):
        X = Y = torch.empty(0)
    if X.ndim != 2 or Y.ndim != 2 or X.shape[1] != Y.shape[1]:
        got = f"{type(found).__name__}" if X.numel() == 0 else f"{tuple(X.shape)} and {tuple(Y.shape)}"
        raise UserError(
            f"data.kind={settings.kind}: its load must return X (features, samples) and Y (targets, samples), got {got}"
        )
    for name, matrix in (("inputs X", X), ("targets Y", Y)):
        if not matrix.isfinite().all():
            raise UserError(f"data: the {name} have values that are not finite")
        if not matrix.any():
            raise UserError(f"data: the {name} do not vary")
    if settings.whiten:
        X = whiten(X)
    return LinearData(X / torch.linalg.matrix_norm(X, 2), Y / torch.linalg.matrix_norm(Y, 2))


def whiten(X: Float[Tensor, "b N"]) -> Float[Tensor, "rank N"]:
    """X in an orthonormal basis of its row space: XXᵀ = 1. The closed forms see only that space and do not change."""
    values, vectors = torch.linalg.eigh(X @ X.mT)
    kept = values > RANK_TOLERANCE * values[-1]
    return (vectors[:, kept] / values[kept].sqrt()).mT @ X


def compact(data: LinearData) -> LinearData:
    """Data with at most a + b samples and the same inner products among all rows of X and Y: the same objectives."""
    rows = torch.linalg.qr(torch.cat(data).mT, mode="r")[1].mT
    return data._replace(X=rows[: len(data.X)], Y=rows[len(data.X) :])
