"""The penalties that this paper's experiments compare, by name."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from repro.papers.adaptive_dropout.adaptive_penalties import FALLING
from repro.theory.penalties import L1, MCP, SCAD, HardConcrete, LogSquare, LogSum, Lp, Standout, VariationalDropout
from repro.theory.penalties.base import Penalty


@dataclass(frozen=True)
class Ridge(Penalty):
    """A retain probability that does not see the weight: Ω(w) = w²/2, η̂ = 1."""

    def _value(self, w: Tensor) -> Tensor:
        return w**2 / 2

    def _eta(self, w: Tensor) -> Tensor:
        return torch.ones_like(w)

    def _dual(self, eta: Tensor) -> Tensor:
        return torch.where(eta >= 1, 0.0, 0.0)  # the minimiser η̂ = 1 is imposed, not found


def catalogue(weight: float) -> dict[str, Penalty]:
    """Every closed form, at parameters at which each does something between 0.01 and 5."""
    return {
        "L1": L1(),
        "Lp, p = 1/2": Lp(0.5),
        "Lp, p = 3/2": Lp(1.5),
        "LogSum": LogSum(2.0),
        "LogSquare": LogSquare(0.5),
        "MCP": MCP(3.0, 0.4),
        "SCAD": SCAD(3.7, 0.4),
        "Standout": Standout(1.5, -1.0, weight),
        "VarDrop": VariationalDropout(),
        "VarDrop, fitted KL": VariationalDropout(approximate=True),
        "HardConcrete": HardConcrete(),
    }


def others(weight: float) -> dict[str, Callable[[Tensor], Tensor]]:
    """Strategies that are none of them: one that falls, one that rises and falls, one that does not move."""
    return {
        FALLING: lambda v: 1 / (1 + 0.3 * (1 + v)),
        "rising, then falling": lambda v: 0.1 + 0.8 * v * torch.exp(1 - v),
        "constant": lambda v: torch.full_like(v, 1 / (1 + weight)),
    }


def of_figure() -> dict[str, tuple[float, Penalty]]:
    """The paper's figure: factors and penalties; hard threshold comes beside them in the panel of vectors."""
    return {
        "VarDrop": (1.0, VariationalDropout()),
        "LogSum": (2.0, LogSum(2.0)),
        "Standout": (1.0, Standout(1.0, 0.0, 1.0)),
        "HardConcrete": (1.0, HardConcrete()),
        "MCP": (2**0.5, MCP(0.5, 2**0.5)),
    }
