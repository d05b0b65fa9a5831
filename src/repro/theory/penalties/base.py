"""What penalties share: their arguments' checks, retain probabilities, and derivatives of what is solved for."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from repro.theory.checks import SUPPORTED_DTYPES, Number


class Penalty(ABC):
    """A penalty Ω of the magnitude of a weight, and the strategy of adaptive dropout that amounts to it.

    The public methods take float32 or float64 tensors of any shape, compute in float64 and return the dtype they were
    given. They raise a ValueError for NaN, for other dtypes, for η < 0 and for a weight that is not in (0, ∞).
    """

    def value(self, w: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Ω(|w|) of each entry."""
        return self._value(magnitudes("w", w)).to(w.dtype)

    def eta(self, w: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """η̂(|w|) = |w|/Ω'(|w|), the minimiser of w²/η + f(η); ∞ where Ω is flat."""
        return self._eta(magnitudes("w", w)).to(w.dtype)

    def dual(self, eta: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """f(η) = max over w of 2Ω(w) − w²/η, for η in [0, ∞]."""
        check_numbers("eta", eta)
        if (eta < 0).any():
            raise ValueError(f"eta must be in [0, inf], got {eta.min().item()}")
        return self._dual(eta.double()).to(eta.dtype)

    def retain(self, w: Float[Tensor, "..."], weight: int | float | Tensor) -> Float[Tensor, "..."]:
        """α = η̂(w)/(η̂(w) + weight) of each entry: the retain probability that the strategy sets.

        Args:
            w: the weights.
            weight: λ, a number or a tensor that broadcasts against w, in (0, ∞).
        """
        check_positive("weight", weight)
        eta = self._eta(magnitudes("w", w))
        small = eta < weight  # neither η/λ nor λ/η overflows, and 0 and ∞ are exact
        one = torch.ones_like(eta)
        low = torch.where(small, eta, one) / torch.where(small, one * weight, one)
        high = torch.where(small, one, one * weight) / torch.where(small, one, eta)
        return torch.where(small, low / (1 + low), 1 / (1 + high)).to(w.dtype)

    @abstractmethod
    def _value(self, w: Tensor) -> Tensor: ...
    @abstractmethod
    def _eta(self, w: Tensor) -> Tensor: ...
    @abstractmethod
    def _dual(self, eta: Tensor) -> Tensor: ...


class WithProx(Penalty):
    """A penalty with a proximal map."""

    def prox(self, z: Float[Tensor, "..."], weight: int | float | Tensor) -> Float[Tensor, "..."]:
        """argmin over w of ½(w − z)² + weight·Ω(w) of each entry: the global minimiser, the smaller one of two.

        Args:
            z: of any sign, which the result keeps.
            weight: a number or a tensor that broadcasts against z, in (0, ∞).
        """
        check_positive("weight", weight)
        size = magnitudes("z", z)
        k = torch.as_tensor(weight, dtype=torch.float64, device=size.device)
        size, k = torch.broadcast_tensors(size, k)
        found = torch.where(size.isinf(), size, self._prox(torch.where(size.isinf(), 1.0, size), k))
        return torch.copysign(found.to(z.dtype), z)

    @abstractmethod
    def _prox(self, z: Tensor, k: Tensor) -> Tensor:
        """Of z >= 0, finite, and a weight of the same shape."""


# ---------------------------------------------------------------------- checks


def check_numbers(name: str, tensor: Tensor) -> None:
    """Raise unless `tensor` is float32 or float64 and without NaN; infinity is a number here."""
    if tensor.dtype not in SUPPORTED_DTYPES:
        raise ValueError(f"{name} must be float32 or float64, got {tensor.dtype}")
    if bad := int(tensor.isnan().sum()):
        raise ValueError(f"{name} must not be NaN, got {bad} of {tensor.numel()} entries")


def magnitudes(name: str, tensor: Tensor) -> Tensor:
    """|tensor| in float64, checked."""
    check_numbers(name, tensor)
    return tensor.double().abs()


def check_positive(name: str, value: Number, above: float = 0.0) -> None:
    """Raise unless every value is finite and beyond `above`."""
    inside = (value > above) & (value < math.inf)
    if not (inside.all() if isinstance(inside, Tensor) else inside):
        shown = value if not isinstance(value, Tensor) else f"values from {value.min().item()} to {value.max().item()}"
        raise ValueError(f"{name} must be in ({above:g}, inf), got {shown}")


def check_parameters(above: float = 0.0, **parameters: float) -> None:
    """Raise unless all parameters of a penalty are finite and beyond `above`."""
    for name, value in parameters.items():
        check_positive(name, value, above)


# ---------------------------------------------------------------------- derivatives


class _Known(torch.autograd.Function):
    """A value that was computed elsewhere, as a function of x with a known slope."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return value.clone()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = cast(tuple[Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        return gradients[0] * slope, None, None


def known(x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """`value`, whose derivative with respect to x is `slope`."""
    return cast(Tensor, _Known.apply(x, value.detach(), slope.detach()))


def implicit(equation: Callable[[Tensor], Tensor], root: Tensor) -> Tensor:
    """The root of an elementwise equation, differentiable in what else the equation depends on.

    One more step of Newton from `root`, which moves it by rounding alone, has the derivatives of the implicit function
    theorem. Where no gradient is asked for, `root` itself.
    """
    left = equation(root.detach())
    if not left.requires_grad:
        return root
    at = root.detach().requires_grad_()
    (slope,) = torch.autograd.grad(equation(at).sum(), at)
    step = left / slope.detach()
    return root.detach() - (step - step.detach())


def bisected(increasing: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, steps: int = 64) -> Tensor:
    """Where an increasing elementwise function changes its sign between `low` and `high`."""
    for _ in range(steps):
        middle = low + (high - low) / 2
        below = increasing(middle) < 0
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low + (high - low) / 2
