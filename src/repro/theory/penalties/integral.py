"""The penalty of any strategy, by the theorem's integral."""

import inspect
import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from repro.theory.penalties.base import check_positive, known, magnitudes

POINTS = 12  # of the rule on a piece
PANEL = 2.0  # largest length of a first piece, in log v
DECADES = 100  # below the smallest w, from where on the integrand is taken for a power of v
HALVINGS = 60
TOLERANCE = 1e-11

Retain = Callable[..., Tensor]
"""retain(v) or retain(v, weight): α in [0, 1] of each entry of a float64 vector v > 0."""


def effective_penalty(retain: Retain, w: Float[Tensor, "..."], weight: int | float) -> Float[Tensor, "..."]:
    """Ω(|w|) = (1/λ) ∫₀^|w| v (1−α(v))/α(v) dv: what a strategy of adaptive dropout penalises, λ = `weight`.

    Ω(0) = 0, so a closed form is compared as `value(w) − value(0)`. Adaptive quadrature in log v between all the w at
    once, to a relative 1e-10 for strategies that are smooth but for kinks and jumps. (1−α)/α in float64 has lost all
    digits where 1 − α is below 1e-16, and 1e-7 of its value at 1e-9. Differentiable in w.

    Args:
        retain: the strategy, a function of v or of v and the weight, of the magnitude of a weight alone:
            `lambda v: v / (v + 0.1)`, or `L1().retain`. May be called with any float64 vector of positive numbers.
        w: float32 or float64, of any shape, finite.
        weight: λ, in (0, ∞).

    Returns:
        Of the shape and dtype of w; ∞ beyond a v at which the strategy never retains.

    Raises:
        ValueError: weight, w or what `retain` returns is out of range, or `retain` fails.
    """
    check_positive("weight", weight)
    size = magnitudes("w", w)
    if size.isinf().any():
        raise ValueError(f"w must be finite, got {int(size.isinf().sum())} infinite of {size.numel()} entries")
    strategy = _checked(retain, float(weight))
    ends, where = size.detach().flatten().unique(return_inverse=True)
    positive = ends[ends > 0]
    totals = torch.zeros_like(ends)
    if len(positive):
        totals[ends > 0] = _integrals(strategy, positive) / weight
    found = totals[where].reshape(size.shape)
    if torch.is_grad_enabled() and w.requires_grad:
        at = size.detach().clamp_min(1e-300)
        found = known(size, found, at / weight * _odds(strategy, at.flatten()).reshape(size.shape))
    return found.to(w.dtype)


def _checked(retain: Retain, weight: float) -> Callable[[Tensor], Tensor]:
    """The strategy as a function of v alone, whose answers are looked at."""
    try:
        given = inspect.signature(retain).parameters.values()
        both = sum(part.default is part.empty and part.kind in (part.POSITIONAL_ONLY, part.POSITIONAL_OR_KEYWORD)
                   for part in given) > 1  # fmt: skip
    except (TypeError, ValueError):  # a built-in without a signature
        both = False

    def alpha(v: Tensor) -> Tensor:
        try:
            found = retain(v, weight) if both else retain(v)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"retain fails on a float64 vector: {type(error).__name__}: {reason}") from error
        if not isinstance(found, Tensor) or found.shape not in (v.shape, ()):
            shown = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"retain must return a tensor of the shape of its argument, {tuple(v.shape)}, got {shown}")
        found = found.detach().to(v).expand(v.shape)
        bad = ~(found.isfinite() & (found >= 0) & (found <= 1))
        if bad.any():
            place = int(bad.nonzero()[0])
            raise ValueError(f"retain must be in [0, 1], got {found[place].item()} at {v[place].item():.6g}")
        return found

    return alpha


def _odds(strategy: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    """(1−α)/α, ∞ at α = 0."""
    alpha = strategy(v)
    return (1 - alpha) / alpha


def _integrals(strategy: Callable[[Tensor], Tensor], ends: Tensor) -> Tensor:
    """∫₀^e v (1−α)/α dv for increasing e > 0."""
    points, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(POINTS))
    lowest = max(math.log(float(ends[0])) - DECADES * math.log(10), -700.0)
    start, tail, power = _tail(strategy, lowest, math.log(float(ends[0])))

    def rule(low: Tensor, high: Tensor) -> Tensor:
        s = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * points
        v = s.exp().flatten()
        return ((v * (v * _odds(strategy, v))).reshape(s.shape) * weights).sum(-1) * (high - low) / 2

    # pieces between the ends, none longer than PANEL; `owner` is the first end that a piece lies below
    bounds = torch.cat([torch.tensor([start], dtype=torch.float64), ends.log().clamp_min(start)])
    counts = ((bounds[1:] - bounds[:-1]) / PANEL).ceil().clamp_min(1).long()
    owner = torch.arange(len(ends)).repeat_interleave(counts)
    step = ((bounds[1:] - bounds[:-1]) / counts)[owner]
    place = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
    low = bounds[:-1][owner] + place * step
    high = low + step
    whole = rule(low, high)
    totals = torch.zeros_like(ends)
    below = tail * (power * (ends.log() - start).clamp_max(0)).exp()
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        left, right = rule(low, middle), rule(middle, high)
        reached = totals.clone().index_add_(0, owner, whole).cumsum(0) + below
        rounding = 4e-16 * (2 * high).exp()  # of 1 − α
        fine = ~((left + right - whole).abs() > TOLERANCE * reached[owner].clamp_max(1e308) / 4 + rounding)
        fine |= ~(left + right).isfinite()  # not retained somewhere in it
        totals.index_add_(0, owner[fine], (left + right)[fine])
        if bool(fine.all()):
            return totals.cumsum(0) + below
        owner = owner[~fine].repeat(2)
        low, high = torch.cat([low[~fine], middle[~fine]]), torch.cat([middle[~fine], high[~fine]])
        whole = torch.cat([left[~fine], right[~fine]])
    return totals.index_add_(0, owner, whole).cumsum(0) + below


def _tail(strategy: Callable[[Tensor], Tensor], lowest: float, highest: float) -> tuple[float, float, float]:
    """The log v to integrate from, and below it the integral and the power of v that it is taken for.

    A strategy with α(0) = 0 underflows to 0 somewhere; one that is 0 at v = 1e-100 and above never retains there.
    """
    s = torch.linspace(lowest, max(highest, -DECADES * math.log(10)), 400, dtype=torch.float64)
    odds = _odds(strategy, s.exp())
    never = ~odds.isfinite()
    if never[-1] or (never & (s > -DECADES * math.log(10) + 1)).any():
        return lowest, 0.0, 1.0
    first = int((~never).nonzero()[0])
    if first == len(s) - 1 or odds[first] < 1e-9 or odds[first + 1] < 1e-9:
        return float(s[first]), 0.0, 1.0
    logs = (2 * s + odds.log())[first : first + 2]
    power = float((logs[1] - logs[0]) / (s[first + 1] - s[first]))
    return float(s[first]), math.exp(float(logs[0])) / power if power > 1e-6 else math.inf, power
