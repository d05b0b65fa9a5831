"""Penalties of Bayesian strategies, whose η̂ is solved for: variational dropout and hard concrete gates.

Molchanov, Ashukha, Vetrov (2017), "Variational dropout sparsifies deep neural networks"; Louizos, Welling, Kingma
(2018), "Learning sparse neural networks through L0 regularization".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.special import dawsn
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from repro.theory.penalties.base import Penalty, bisected, check_parameters, implicit, known

EULER_GAMMA = 0.57721566490153286
NODES = 64  # of the rule of Gauss and Legendre for Dawson's integral
GATE_NODES = 24  # and for the moments of gates, whose integrands are nearly straight
FAR = 8.0  # from where on Dawson's integral is summed from its asymptotic series, whose smallest term is e^(−64)
MOLCHANOV = (0.63576, 1.87320, 1.48695)


@dataclass(frozen=True)
class VariationalDropout(Penalty):
    """Sparse variational dropout: f(η) = 2 (KL(η) − KL(0)), where KL is that of a Gaussian of mean 1 and precision η
    (relative to the squared mean) from the log-uniform prior.

    Exactly, f'(η) = D(t)/t with t = √(η/2) and Dawson's function D; `approximate` takes the fit that training uses,
    f(η) = 2 (k₁σ(k₃ log η − k₂) + ½ log(1+η)), k = 0.63576, 1.87320, 1.48695. η̂ solves w² = η² f'(η), and
    Ω(w) = ½ (w²/η̂ + f(η̂)) grows like log w.
    """

    approximate: bool = False

    def _value(self, w: Tensor) -> Tensor:
        with torch.no_grad():
            usual, log_t = self._solved(w)
            log_slope = self._log_slope(log_t)
            found = (2 * log_t + log_slope).exp() + self._integral(log_t) / 2
        # Ω' = w/η̂ = √f'(η̂)
        return known(w, torch.where(usual, found, w), torch.where(usual, (log_slope / 2).exp(), (w == 0).double()))

    def _eta(self, w: Tensor) -> Tensor:
        usual, log_t = self._solved(w.detach())
        log_w = torch.where(usual, w, 1.0).log()
        log_t = implicit(lambda at: self._equation(at) - log_w, log_t)
        return torch.where(usual, (math.log(2) + 2 * log_t).exp(), w)

    def _dual(self, eta: Tensor) -> Tensor:
        usual = (eta > 0) & ~eta.isinf()
        log_t = (torch.where(usual, eta.detach(), 1.0).log() - math.log(2)) / 2
        slope = torch.where(usual, self._log_slope(log_t).exp(), (eta == 0).double())
        return known(eta, torch.where(usual, self._integral(log_t), eta), slope)

    def _equation(self, log_t: Tensor) -> Tensor:
        """log w, from w² = η² f'(η): nearly a straight line."""
        return math.log(2) + 2 * log_t + self._log_slope(log_t) / 2

    def _solved(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Which w are neither 0 nor ∞, and log t of theirs, t = √(η̂/2)."""
        usual = (w > 0) & ~w.isinf()
        log_w = torch.where(usual, w, 1.0).log()
        guess = torch.where(log_w < 0, (log_w - math.log(2)) / 2, log_w - math.log(2) / 2)
        return usual, newton(lambda log_t: self._equation(log_t) - log_w, guess)

    def _log_slope(self, log_t: Tensor) -> Tensor:
        """log f' at η = 2t²."""
        if not self.approximate:
            t = log_t.exp()
            return dawson(t).log() - log_t
        k1, k2, k3 = MOLCHANOV
        log_eta = math.log(2) + 2 * log_t
        argument = k3 * log_eta - k2
        first = math.log(2 * k1 * k3) + logsigmoid(argument) + logsigmoid(-argument) - log_eta
        return torch.logaddexp(first, logsigmoid(-log_eta))

    def _integral(self, log_t: Tensor) -> Tensor:
        """f at η = 2t²."""
        if self.approximate:
            k1, k2, k3 = MOLCHANOV
            log_eta = math.log(2) + 2 * log_t
            return 2 * k1 * torch.sigmoid(k3 * log_eta - k2) + softplus(log_eta)
        # f = 4 ∫₀ᵗ D, by quadrature, or from D ~ Σ (2k−1)!!/(2t²)^k /(2t) integrated term by term
        t = log_t.exp()
        near, far = t.clamp(max=FAR), t.clamp_min(FAR)
        total = torch.zeros_like(near)
        for point, weight in zip(*(part.tolist() for part in unit_rule()), strict=True):
            total += weight * dawson(point * near)
        series, term = torch.zeros_like(far), torch.ones_like(far)
        for k in range(1, 21):
            term = term * (2 * k - 1) / 2 / far / far
            series += term / k
        return torch.where(t < FAR, 4 * near * total, 2 * log_t + 2 * math.log(2) + EULER_GAMMA - series)


def newton(equation: Callable[[Tensor], Tensor], root: Tensor, steps: int = 40, longest: float = 2.0) -> Tensor:
    """The root of an increasing elementwise equation near a guess."""
    for _ in range(steps):
        with torch.enable_grad():
            at = root.detach().requires_grad_()
            left = equation(at)
            (slope,) = torch.autograd.grad(left.sum(), at)
        step = (left / slope).detach().clamp(-longest, longest)
        root = (root - step).detach()
        if bool((step.abs() <= 1e-9 * root.abs().clamp_min(1)).all()):  # the next would be its square
            break
    return root


def dawson(x: Tensor) -> Tensor:
    """Dawson's function e^(−x²) ∫₀ˣ e^(t²) dt, with its first derivative."""
    found = torch.as_tensor(dawsn(x.detach().cpu().numpy())).to(x)
    return known(x, found, 1 - 2 * x.detach() * found)


def unit_rule(nodes: int = NODES) -> tuple[Tensor, Tensor]:
    """Points and weights of Gauss and Legendre on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return torch.from_numpy((points + 1) / 2), torch.from_numpy(weights / 2)


@dataclass(frozen=True)
class HardConcrete(Penalty):
    """L0 by hard concrete gates s = clip(s̄(ζ−γ)+γ, 0, 1), s̄ = σ((logit u + ℓ)/β) with u uniform and ℓ = log a.

    η(ℓ) = E[s]²/Var s, f = P(s≠0) = σ(ℓ − β log(−γ/ζ)), and Ω(w) = ½ min over ℓ of w²/η(ℓ) + P(s≠0), which is ½ from a
    finite w on, where η̂ = ∞. Moments by quadrature: E s = ∫₀¹ P(s>x) dx, E s² = ∫₀¹ 2x P(s>x) dx.

    `dual` is P(s≠0) itself. It is concave in −1/η, as a conjugate is, only up to where η̂ jumps to ∞; between there
    and ∞, where no minimum lies, it exceeds max over w of 2Ω(w) − w²/η, by less than 0.002.
    """

    beta: float = 2 / 3
    gamma: float = -0.1
    zeta: float = 1.1

    def __post_init__(self) -> None:
        check_parameters(beta=self.beta)
        if not (math.isfinite(self.gamma) and self.gamma < 0):
            raise ValueError(f"gamma must be in (-inf, 0), got {self.gamma}")
        if not (math.isfinite(self.zeta) and self.zeta > 1):
            raise ValueError(f"zeta must be in (1, inf), got {self.zeta}")

    @cached_property
    def _rule(self) -> tuple[Tensor, Tensor, Tensor]:
        """Points x, their weights, and β logit((x−γ)/(ζ−γ)): P(s>x) = σ(ℓ − that)."""
        points, weights = unit_rule(GATE_NODES)
        y = (points - self.gamma) / (self.zeta - self.gamma)
        return points, weights, self.beta * torch.logit(y)

    @property
    def _shift(self) -> float:
        return self.beta * math.log(-self.gamma / self.zeta)

    @cached_property
    def _jump(self) -> tuple[float, float]:
        """(w, ℓ) from where on the minimum is at ℓ = ∞, with Ω = ½: f is convex for large η, and η̂ jumps there."""
        points, weights, shifts = self._rule
        grid = torch.linspace(-20, 40, 6001, dtype=torch.float64)
        above = (self._paid(grid) > 0.5 + 1e-12).nonzero()
        if len(above):
            high = grid[above[0]]
            at = bisected(lambda ell: self._paid(ell) - 0.5, high - 0.01, high)
            return float((self._log_rate(at) / 2).exp()), float(at)
        # −P'/var' for ℓ → ∞, where both are of order e^(−ℓ) and var → e^(−ℓ) ∫ 2(1−x) e^shift dx
        lost = float((weights * 2 * (1 - points) * shifts.exp()).sum())
        return math.exp(self._shift / 2) / math.sqrt(lost), 40.0

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """ℓ from -20 to where the minimum jumps, and log w at whose minimum they are."""
        table = torch.linspace(-20, self._jump[1], 4001, dtype=torch.float64)
        return table.numpy(), (self._log_rate(table) / 2).numpy()

    @property
    def flat(self) -> float:
        """The w from which on Ω is flat."""
        return self._jump[0]

    def _paid(self, location: Tensor) -> Tensor:
        """Ω at the w whose minimum is at ℓ."""
        share = self._log_rate(location).exp() / self._precision(location)
        return (share + torch.sigmoid(location - self._shift)) / 2

    def _value(self, w: Tensor) -> Tensor:
        points, weights, shifts = self._rule
        with torch.no_grad():
            usual, location = self._solved(w)
            at = torch.where(usual, w, 1.0)
            slope = at / self._precision(location)
            found = (at * slope + torch.sigmoid(location - self._shift)) / 2
            # at 0: f → κη, and Ω → √κ w
            first, second = (float((weights * power * (-shifts).exp()).sum()) for power in (1, 2 * points))
            steepest = math.exp(self._shift * -0.5) * math.sqrt(second) / first
            value = torch.where(usual, found, (w > 0).double() / 2)
        return known(w, value, torch.where(usual, slope, (w == 0) * steepest))

    def _eta(self, w: Tensor) -> Tensor:
        usual, location = self._solved(w.detach())
        log_w = torch.where(usual, w, 1.0).log()
        location = implicit(lambda ell: self._log_rate(ell) / 2 - log_w, location)
        return torch.where(usual, self._precision(location), torch.where(w > 0, torch.inf, w))

    def _dual(self, eta: Tensor) -> Tensor:
        usual = (eta > 0) & ~eta.isinf()
        log_eta = torch.where(usual, eta, 1.0).log()

        def equation(ell: Tensor) -> Tensor:
            return self._log_precision(ell) - log_eta

        location = implicit(equation, newton(equation, log_eta.detach()))  # η is of the size of e^ℓ from end to end
        return torch.where(usual, torch.sigmoid(location - self._shift), (eta > 0).double())

    def _solved(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Which w lie in (0, flat), and their ℓ, at w² = −P'(ℓ)/var'(ℓ)."""
        flat, last = self._jump
        usual = (w > 0) & (w < flat)
        log_w = torch.where(usual, w, 0.1 * flat).log()
        table, rates = self._table
        guess = torch.as_tensor(np.interp(log_w.cpu().numpy(), rates, table)).to(w)
        guess += (log_w - float(rates[0])).clamp_max(0)  # below the table w is of the size of e^ℓ
        return usual, newton(lambda ell: self._log_rate(ell) / 2 - log_w, guess, longest=0.1).clamp_max(last)

    def _precision(self, location: Tensor) -> Tensor:
        return self._log_precision(location).exp()

    def _log_precision(self, location: Tensor) -> Tensor:
        """log η, η = E[s]²/Var s; moments of s for small ℓ, of 1 − s for large, both in units of e^±ℓ."""
        points, weights, shifts = (part.to(location) for part in self._rule)
        low, high = location.clamp(max=0.0), location.clamp_min(0.0)
        scaled = (logsigmoid(low.unsqueeze(-1) - shifts) - low.unsqueeze(-1)).exp()
        missing = (logsigmoid(shifts - high.unsqueeze(-1)) + high.unsqueeze(-1)).exp()
        first, second = (weights * scaled).sum(-1), (weights * 2 * points * scaled).sum(-1)
        lost, lost_second = (weights * missing).sum(-1), (weights * 2 * (1 - points) * missing).sum(-1)
        mean = 1 - (-high).exp() * lost
        below = 2 * first.log() - (second - low.exp() * first.square()).log() + low
        above = 2 * mean.log() - (lost_second - (-high).exp() * lost.square()).log() + high
        return torch.where(location < 0, below, above)

    def _log_rate(self, location: Tensor) -> Tensor:
        """log(−P'/var') with var = E s²/E[s]² − 1 and −var' = ∫ 2(ρ−x) σ(1−σ) dx / E[s]², ρ = E s²/E s."""
        points, weights, shifts = (part.to(location) for part in self._rule)
        arguments = location.unsqueeze(-1) - shifts
        rising, falling = logsigmoid(arguments), logsigmoid(-arguments)
        # e^−|ℓ| taken out of σ(1−σ), and e^ℓ out of σ where ℓ < 0
        low, size = location.clamp(max=0.0).unsqueeze(-1), location.abs().unsqueeze(-1)
        scaled, both = (rising - low).exp(), (rising + falling + size).exp()
        first, second = (weights * scaled).sum(-1), (weights * 2 * points * scaled).sum(-1)
        ratio = (second / first).unsqueeze(-1)
        change = (weights * 2 * (ratio - points) * both).sum(-1)
        at = location - self._shift
        paid = logsigmoid(at) + logsigmoid(-at) + location.abs()
        return paid - change.log() + 2 * first.log() + 2 * location.clamp(max=0.0)
