"""Penalties with closed forms. Each is written so that nothing overflows or cancels between 1e-300 and 1e300.

MCP: Zhang (2010); SCAD: Fan and Li (2001); LogSum: Candès, Wakin, Boyd (2008); standout: Ba and Frey (2013).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from repro.theory.penalties.base import Penalty, WithProx, bisected, check_parameters, check_positive, implicit, known

FAR = 1e8  # times a penalty's own length, from where on its slope is that of its tail, to rounding


@dataclass(frozen=True)
class L1(WithProx):
    """Ω(w) = w, η̂(w) = w, f(η) = η; prox is the soft threshold."""

    def _value(self, w: Tensor) -> Tensor:
        return w

    def _eta(self, w: Tensor) -> Tensor:
        return w

    def _dual(self, eta: Tensor) -> Tensor:
        return eta

    def _prox(self, z: Tensor, k: Tensor) -> Tensor:
        return (z - k).clamp_min(0)


@dataclass(frozen=True)
class Lp(WithProx):
    """Ω(w) = w^p/p, η̂(w) = w^(2−p), f(η) = η^q/q with q = p/(2−p), for 0 < p < 2."""

    p: float

    def __post_init__(self) -> None:
        if not 0 < self.p < 2:
            raise ValueError(f"p must be in (0, 2), ends excluded, got {self.p}")

    def _value(self, w: Tensor) -> Tensor:
        return w**self.p / self.p

    def _eta(self, w: Tensor) -> Tensor:
        return w ** (2 - self.p)

    def _dual(self, eta: Tensor) -> Tensor:
        q = self.p / (2 - self.p)
        return eta**q / q

    def _prox(self, z: Tensor, k: Tensor) -> Tensor:
        if self.p == 1:
            return (z - k).clamp_min(0)
        # 1 = u + κu^(p−1) for u = w/z, in the logarithm of u
        positive = torch.where(z > 0, z, 1.0)
        strength = k.detach().log() + (self.p - 2) * positive.detach().log()
        if self.p > 1:
            # convex and increasing in log u: Newton descends to the root from a point beyond it
            log_u = torch.minimum(torch.zeros_like(strength), -strength / (self.p - 1))
            for _ in range(60):
                other = strength + (self.p - 1) * log_u
                share = torch.sigmoid(log_u - other)
                log_u = log_u - torch.logaddexp(log_u, other) / (share + (self.p - 1) * (1 - share))
            found = positive.detach() * log_u.exp()
            kept = (z > 0) & (found > 0)
        else:
            # 0 and the larger root tie at w* = (2k(1−p)/p)^(1/(2−p)), which is the prox of z* = w*(2−p)/(2(1−p))
            p = self.p
            tie = ((math.log(2 * (1 - p) / p) + k.detach().log()) / (2 - p)).exp()
            kept = z > tie * (2 - p) / (2 * (1 - p))
            kappa, u = torch.where(kept, strength, -torch.inf).exp(), torch.ones_like(strength)
            for _ in range(60):  # convex and increasing right of the root
                u = u - (u + kappa * u ** (p - 1) - 1) / (1 - kappa * (1 - p) * u ** (p - 2))
            found = positive.detach() * u
        found = torch.where(kept, found, 1.0)
        weight = torch.where(kept, k, 0.0)  # else the slope may be 0 at the 1 that stands for the others
        root = implicit(lambda w: w - positive + weight * w ** (self.p - 1), found)
        return torch.where(kept, torch.minimum(root, positive), 0.0)


@dataclass(frozen=True)
class LogSum(WithProx):
    """Ω(w) = log(w+ε), η̂(w) = w(w+ε), f(η) = 2 log(w+ε) − w²/η at w = (√(ε²+4η) − ε)/2."""

    epsilon: float

    def __post_init__(self) -> None:
        check_parameters(epsilon=self.epsilon)

    def _value(self, w: Tensor) -> Tensor:
        return log_sum(w, self.epsilon)

    def _eta(self, w: Tensor) -> Tensor:
        return w * (w + self.epsilon)

    def _dual(self, eta: Tensor) -> Tensor:
        finite = torch.where(eta.isinf(), 1.0, eta).detach()
        w = finite / (torch.hypot(torch.full_like(finite, self.epsilon / 2), finite.sqrt()) + self.epsilon / 2)
        found = 2 * log_sum(w, self.epsilon) - w / (w + self.epsilon)
        return known(eta, torch.where(eta.isinf(), eta, found), (w + self.epsilon) ** -2.0)

    def _prox(self, z: Tensor, k: Tensor) -> Tensor:
        # In units of ε: ½(u−v)² + c log(1+u), stationary at u = (v − 1 + √((v+1)² − 4c))/2.
        v, c = z / self.epsilon, k / self.epsilon / self.epsilon
        root_c = c.sqrt()
        low, high = v + 1 - 2 * root_c, v + 1 + 2 * root_c
        real = low > 0
        root = torch.where(real, low, 1.0).sqrt() * torch.where(real, high, 1.0).sqrt()
        below = real & (v < 1)
        u = torch.where(below, 2 * (v - c) / torch.where(below, root + 1 - v, 1.0), (v - 1 + root) / 2)
        u = torch.where(real, u, 0.0).clamp_min(0)
        # Where √c <= 1 the objective is convex; else the larger root and 0 are compared.
        better = (root_c <= 1) | (c * torch.log1p(u) < u * (v - u / 2))
        far = z > FAR * (self.epsilon + k.sqrt())
        positive = torch.where(far, z, 1.0)
        return torch.where(far, positive - k / positive, torch.where(real & better, u * self.epsilon, 0.0))


@dataclass(frozen=True)
class LogSquare(WithProx):
    """Ω(w) = log(w²+ε), η̂(w) = (w²+ε)/2, f(η) = 2 log(2η) − 2 + ε/η where 2η >= ε, else 2 log ε."""

    epsilon: float

    def __post_init__(self) -> None:
        check_parameters(epsilon=self.epsilon)

    def _value(self, w: Tensor) -> Tensor:
        root = math.sqrt(self.epsilon)
        small = w <= root
        ratio = torch.where(small, w / root, root / torch.where(small, 1.0, w))
        return 2 * torch.where(small, math.log(root), torch.where(small, 1.0, w).log()) + torch.log1p(ratio**2)

    def _eta(self, w: Tensor) -> Tensor:
        return w**2 / 2 + self.epsilon / 2

    def _dual(self, eta: Tensor) -> Tensor:
        # with x = 2η/ε − 1 >= 0: 2 log ε + 2 (log(1+x) − x/(1+x))
        x = (2 * (eta / self.epsilon) - 1).clamp_min(0)
        finite = torch.where(x.isinf(), 1.0, x)
        found = 2 * math.log(self.epsilon) + 2 * (torch.log1p(finite) - finite / (1 + finite))
        far = 2 * (math.log(2) + torch.where(eta > 0, eta, 1.0).log()) - 2
        return torch.where(x.isinf(), far, found)

    def _prox(self, z: Tensor, k: Tensor) -> Tensor:
        # In units of √ε: ½(u−v)² + c log(1+u²), c = k/ε. Its slope falls between √x₋ and √x₊ alone, where
        # (1+x)² < 2c(x−1); one minimum may lie on either side.
        root = math.sqrt(self.epsilon)
        outside = z > FAR * (root + k.sqrt())
        v, c = torch.where(outside, 1.0, z) / root, k / self.epsilon
        at, strength = v.detach(), c.detach()
        wavy = strength > 4
        spread = strength.sqrt() * (strength - 4).clamp_min(0).sqrt()
        upper = torch.where(wavy, strength - 1 + spread, 1.0)
        first = torch.where(wavy, ((1 + 2 * strength) / upper).sqrt(), torch.inf)

        def slope(u: Tensor) -> Tensor:
            return u - at + 2 * strength * (u / (1 + u * u))

        def height(u: Tensor) -> Tensor:
            return u * (u / 2 - at) + strength * torch.log1p(u * u)

        # the near one may be any number of decades below `at`
        lowest = at / (1 + 2 * strength)  # the root itself where its square is nothing beside 1
        low, high = (end.clamp_min(1e-200).log() for end in (lowest * (1 - 1e-9), torch.minimum(first, at)))
        near = torch.where(lowest > 1e-100, bisected(lambda s: slope(s.exp()), low, high).exp(), lowest)
        begin = torch.minimum(torch.where(wavy, upper.sqrt(), 0.0), at)
        far = bisected(slope, begin, at)
        u = torch.where((slope(begin) < 0) & (height(far) < height(near)), far, near)
        found = implicit(lambda w: w - v + c * (2 * w / (1 + w * w)), u) * root
        positive = torch.where(outside, z, 1.0)
        return torch.where(outside, positive - 2 * (k / positive), found)


@dataclass(frozen=True)
class MCP(WithProx):
    """The minimax concave penalty: Ω(w) = w − w²/(2m) for w <= m, then m/2, with m = a·scale.

    λΩ with scale = λ is the textbook's λw − w²/(2a). η̂(w) = mw/(m−w), f(η) = mη/(η+m).
    """

    a: float
    scale: float

    def __post_init__(self) -> None:
        check_parameters(a=self.a, scale=self.scale)

    @property
    def knee(self) -> float:
        """m, from where on Ω is flat."""
        return self.a * self.scale

    def _value(self, w: Tensor) -> Tensor:
        u = w.clamp(max=self.knee)
        return u * (1 - u / self.knee / 2)

    def _eta(self, w: Tensor) -> Tensor:
        inside = w < self.knee
        u = torch.where(inside, w, 0.0)
        return torch.where(inside, u / (1 - u / self.knee), torch.inf)

    def _dual(self, eta: Tensor) -> Tensor:
        small = eta < self.knee
        low, high = torch.where(small, eta, 0.0), torch.where(small, self.knee, eta)
        return torch.where(small, low / (1 + low / self.knee), self.knee / (1 + self.knee / high))

    def _prox(self, z: Tensor, k: Tensor) -> Tensor:
        m = self.knee
        convex = k < m
        shrunk = (z - k).clamp_min(0) / torch.where(convex, 1 - k / m, 1.0)
        kept = z > torch.where(convex, m, (k.sqrt() * math.sqrt(m)))
        return torch.where(kept, z, torch.where(convex, torch.minimum(shrunk, z), 0.0))


@dataclass(frozen=True)
class SCAD(WithProx):
    """Smoothly clipped absolute deviation, a > 1, with l = scale: Ω' is 1 up to l, (al−w)/((a−1)l) up to al, then 0.

    λΩ with scale = λ is the textbook's form.
    """

    a: float
    scale: float

    def __post_init__(self) -> None:
        check_parameters(scale=self.scale)
        check_positive("a", self.a, above=1.0)

    def _value(self, w: Tensor) -> Tensor:
        return self.scale * self._unit(w / self.scale)

    def _unit(self, u: Tensor) -> Tensor:
        """Ω at scale 1."""
        beyond = u.clamp(1, self.a) - 1
        return u.clamp(max=1.0) + beyond * (1 - beyond / (2 * (self.a - 1)))

    def _eta(self, w: Tensor) -> Tensor:
        inside = w < self.a * self.scale
        u = torch.where(inside, w, 0.0)
        slope = ((self.a - u / self.scale) / (self.a - 1)).clamp(max=1.0)
        return torch.where(inside, u / slope, torch.inf)

    def _dual(self, eta: Tensor) -> Tensor:
        t, a = eta / self.scale, self.a
        inner, outer = t.clamp(max=1.0), t.clamp_min(1.0)
        far = ((a + 1) - 1 / outer) / ((a - 1) / outer + 1)
        return self.scale * torch.where(t <= 1, inner, far)

    def _prox(self, z: Tensor, k: Tensor) -> Tensor:
        # In units of scale, the best of what each piece has: its stationary point if it is one, or an end.
        a, v, c = self.a, z / self.scale, k / self.scale
        bend = a - 1 - c
        curved = (v * (a - 1) - a * c) / torch.where(bend > 0, bend, 1.0)
        zero = torch.zeros_like(v)
        candidates = torch.stack(
            [zero, (v - c).clamp(0, 1), torch.where(bend > 0, curved, 1.0).clamp(1, a), v.clamp_min(a)]
        )
        heights = candidates * (candidates / 2 - v) + c * self._unit(candidates)
        best = heights.detach().argmin(0, keepdim=True)
        far = z > FAR * (a * self.scale + (k * self.scale).sqrt())
        return torch.where(far, z, candidates.gather(0, best)[0] * self.scale)


@dataclass(frozen=True)
class Standout(Penalty):
    """α = σ(aw+b) at the weight λ = `weight`, with a = `slope` and b = `offset`: η̂(w) = λ e^{aw+b} and
    Ω(w) = e^{−b}/(λa²) (1 − (1+aw)e^{−aw}).

    α(0) > 0: the slope of Ω at 0 is 0, and no weight becomes exactly zero.
    """

    slope: float
    offset: float
    weight: float

    def __post_init__(self) -> None:
        check_parameters(slope=self.slope, weight=self.weight)
        if not math.isfinite(self.offset):
            raise ValueError(f"offset must be finite, got {self.offset}")

    def _value(self, w: Tensor) -> Tensor:
        x = self.slope * w
        # 1 − (1+x)e^{−x} is the regularised incomplete gamma function P(2, x)
        shape = torch.special.gammainc(torch.full_like(x, 2.0), torch.where(x.isinf(), 1.0, x))
        return torch.where(x.isinf(), 1.0, shape) * (math.exp(-self.offset) / self.weight / self.slope**2)

    def _eta(self, w: Tensor) -> Tensor:
        return self.weight * torch.exp(self.slope * w + self.offset)

    def _dual(self, eta: Tensor) -> Tensor:
        usual = (eta > 0) & ~eta.isinf()
        finite = torch.where(usual, eta, 1.0)
        w = torch.where(usual, ((finite.log() - math.log(self.weight) - self.offset) / self.slope).clamp_min(0), eta)
        return 2 * self._value(w) - torch.where(usual, w / finite * w, 0.0)


def log_sum(w: Tensor, epsilon: float) -> Tensor:
    """log(w+ε), exact for w far below and far above ε."""
    small = w <= epsilon
    large = torch.where(small, 1.0, w)
    ratio = torch.where(small, w / epsilon, epsilon / large)
    return torch.where(small, math.log(epsilon), large.log()) + torch.log1p(ratio)
