"""The one penalty here that is not a sum over entries."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from repro.theory.penalties.base import check_numbers, check_positive, magnitudes


@dataclass(frozen=True)
class HardThreshold:
    """At most k entries of each vector that are not zero: Ω is 0 there, else ∞.

    The strategy retains the k largest magnitudes always and all others never; ties go to one of them. Vectors are along
    the last dimension; errors as for `Penalty`, and a ValueError for vectors of no entries.
    """

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    def value(self, w: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
        """0 where at most k entries are not zero, else ∞: one number a vector."""
        return _allowed(self._checked("w", w), self.k)

    def eta(self, w: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """∞ for the k largest magnitudes, 0 for the others."""
        size = self._checked("w", w)
        kept = torch.zeros_like(size).scatter(-1, size.topk(min(self.k, size.shape[-1]), -1).indices, torch.inf)
        return torch.where(size > 0, kept, 0.0).to(w.dtype)

    def dual(self, eta: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
        """0 where at most k entries of η are not zero, else ∞: one number a vector."""
        if (eta < 0).any():
            raise ValueError(f"eta must be in [0, inf], got {eta.min().item()}")
        return _allowed(self._checked("eta", eta), self.k)

    def retain(self, w: Float[Tensor, "*batch n"], weight: int | float | Tensor = 1.0) -> Float[Tensor, "*batch n"]:
        """1 for the k largest magnitudes, 0 for the others, whatever the weight."""
        check_positive("weight", weight)
        return (self.eta(w) > 0).to(w.dtype)

    def prox(self, z: Float[Tensor, "*batch n"], weight: int | float | Tensor = 1.0) -> Float[Tensor, "*batch n"]:
        """The nearest vector with at most k entries that are not zero, whatever the weight."""
        return torch.where(self.retain(z, weight) > 0, z, torch.zeros_like(z))

    def _checked(self, name: str, vectors: Tensor) -> Tensor:
        check_numbers(name, vectors)
        if vectors.ndim < 1 or vectors.shape[-1] == 0:
            raise ValueError(f"{name} must have shape (*batch, n) with n >= 1, got {tuple(vectors.shape)}")
        return magnitudes(name, vectors)


def _allowed(size: Tensor, k: int) -> Tensor:
    return torch.where((size > 0).sum(-1) <= k, 0.0, torch.inf).to(torch.float64)
