"""Regressions that share a size, each with a penalty of its own, as one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from repro.theory.penalties import Penalty

TINY = 1e-120  # a weight that stands for 0⁺


@dataclass(frozen=True)
class Cells:
    """½‖y − Xw‖² + λ Σ Ω(w_j) for many X, y, λ and Ω at once.

    Attributes:
        gram: XᵀX of each cell, float64; columns of X have norm 1.
        moment: Xᵀy.
        energy: ½‖y‖².
        weight: λ.
        penalties: Ω of each cell; neighbours that share one are computed together.
    """

    gram: Float[Tensor, "cells d d"]
    moment: Float[Tensor, "cells d"]
    energy: Float[Tensor, " cells"]
    weight: Float[Tensor, " cells"]
    penalties: Sequence[Penalty]

    def __len__(self) -> int:
        return len(self.weight)

    def __getitem__(self, rows: Tensor) -> "Cells":
        penalties = [self.penalties[row] for row in rows.tolist()]
        return Cells(self.gram[rows], self.moment[rows], self.energy[rows], self.weight[rows], penalties)

    @cached_property
    def _runs(self) -> list[tuple[Penalty, slice]]:
        starts = [i for i in range(len(self)) if i == 0 or self.penalties[i] != self.penalties[i - 1]]
        return [(self.penalties[i], slice(i, j)) for i, j in zip(starts, [*starts[1:], len(self)], strict=True)]

    def retain(self, w: Float[Tensor, "cells k"]) -> Float[Tensor, "cells k"]:
        """What each cell's strategy sets at w."""
        weight = self.weight[:, None]
        return torch.cat([penalty.retain(w[rows], weight[rows]) for penalty, rows in self._runs])

    def slope(self, w: Float[Tensor, "cells k"]) -> Float[Tensor, "cells k"]:
        """λΩ'(|w|), at 0 the slope from the right."""
        at = w.abs().clamp_min(TINY)
        return torch.cat([self.weight[rows, None] * (at[rows] / penalty.eta(at[rows])) for penalty, rows in self._runs])

    def gradient(self, w: Float[Tensor, "cells d"]) -> Float[Tensor, "cells d"]:
        """Of the squared error alone."""
        return _times(self.gram, w) - self.moment

    def objective(self, w: Float[Tensor, "cells d"]) -> Float[Tensor, " cells"]:
        value = torch.cat([penalty.value(w[rows]).sum(1) for penalty, rows in self._runs])
        fit = self.energy + (w * (_times(self.gram, w) / 2 - self.moment)).sum(1)
        return fit + self.weight * value

    def residual(self, w: Float[Tensor, "cells d"]) -> Float[Tensor, " cells"]:
        """By how much w fails to be stationary: the largest |∂_j + λΩ'(|w_j|) sign w_j| where w_j ≠ 0, and the largest
        excess of |∂_j| over λΩ'(0⁺) where w_j = 0."""
        gradient, slope = self.gradient(w), self.slope(w)
        on, off = (gradient + slope * w.sign()).abs(), (gradient.abs() - slope).clamp_min(0)
        return torch.where(w != 0, on, off).amax(1)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    return (matrices @ vectors.unsqueeze(-1)).squeeze(-1)
