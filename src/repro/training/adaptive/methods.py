"""Ways to a sparse network with the log-sum penalty λ Σ log(|w|+ε): in the loss, as adaptive dropout, in between.

Every method holds the weights of many networks; `weight` is λ of each. With η̂(w) = |w|(|w|+ε) the retain probability of
a weight is α = η̂/(η̂+λ). Biases are not penalised. LeJeune, Javadi, Baraniuk (2021) and the notebooks beside it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from repro.theory.penalties import LogSum as Penalty
from repro.training.adaptive import Settings
from repro.training.adaptive.network import Stack

FLOOR = 1e-3  # least retain probability that AdaTikhonov and adaptive dropout divide by
START = 5.0  # log(η/λ) with which the η-trick begins
Moments = Callable[[Tensor], Tensor]
"""Adam's second moment, unbiased, of the gradient of a parameter."""


class Plain:
    """Adam on the cross-entropy without a penalty: what the others change of it."""

    start: float | None = None  # standard deviation of normal initial weights; None: torch's default

    def __init__(self, stack: Stack, weight: Tensor, training: Settings) -> None:
        self.weights, self.biases = stack.weights, stack.biases
        self.weight, self.training = weight[:, None, None], training
        self.logs: list[Tensor] = []  # parameters beside weights and biases, with a step size of their own
        self.generator = torch.Generator(weight.device)

    def layer(self, number: int, x: Tensor) -> Tensor:
        """What a layer makes of its inputs in training."""
        return torch.baddbmm(self.biases[number], x, self.weights[number])

    def add_gradient(self) -> None:
        """Adds that of the penalty to the gradient of the loss."""
        return

    def after(self, moments: Moments, rate: float) -> None:
        """After a step of size `rate`."""
        return

    def retain(self, number: int) -> Tensor:
        """α of the weights of a layer."""
        return torch.ones_like(self.weights[number])


class LogSum(Plain):
    """Adam on CE + λ Σ log(|w|+ε); α only counts zeros."""

    def add_gradient(self) -> None:
        for w in self.weights:
            gradient(w).add_(self.weight * w.sign() / (w.abs() + self.training.epsilon))

    def retain(self, number: int) -> Tensor:
        return self.follow(self.weights[number], self.weight)

    def follow(self, w: Tensor, weight: Tensor) -> Tensor:
        """η̂/(η̂ + weight) of weights w."""
        eta = w.abs() * (w.abs() + self.training.epsilon)
        return eta / (eta + weight)


class AdaTikhonov(LogSum):
    """Adam on CE + ½ Σ w²(1−ᾱ)/ᾱ, ᾱ = max(α, 1e-3) held fixed for a batch and set from the weights after it."""

    def __init__(self, stack: Stack, weight: Tensor, training: Settings) -> None:
        super().__init__(stack, weight, training)
        self.alpha = [torch.ones_like(w) for w in self.weights]

    def add_gradient(self) -> None:
        for w, alpha in zip(self.weights, self.alpha, strict=True):
            kept = alpha.clamp_min(FLOOR)
            gradient(w).add_(w * (1 - kept) / kept)

    def after(self, moments: Moments, rate: float) -> None:
        self.alpha = [self.follow(w, self.weight) for w in self.weights]


class AdaProx(LogSum):
    """A step of Adam on CE to z, then w ← αz with α = η̂(z)/(η̂(z) + rate·λ/√v̂): one reweighting in place of a prox."""

    def add_gradient(self) -> None:
        return

    def after(self, moments: Moments, rate: float) -> None:
        for w in self.weights:
            w *= self.follow(w, rate * self.weight / (moments(w).sqrt() + 1e-8))


class AdaptiveDropout(LogSum):
    """Adam on CE under masks b/α on the weights, b ~ Bern(α), α = max(α(w), 1e-3) without gradient: no penalty at all.

    One mask a batch, as what it stands for, ½ Σ w²(1−ᾱ)/ᾱ, is one term a batch.
    """

    def layer(self, number: int, x: Tensor) -> Tensor:
        w = self.weights[number]
        alpha = self.follow(w.detach(), self.weight).clamp_min(FLOOR)
        drawn = torch.rand(w.shape, generator=self.generator, device=w.device)
        return torch.baddbmm(self.biases[number], x, w * ((drawn < alpha) / alpha))

    def add_gradient(self) -> None:
        return


class EtaTrick(Plain):
    """Adam on CE + (λ/2) Σ [w²/η + f(η)] in w and ρ = log(η/λ) together."""

    def __init__(self, stack: Stack, weight: Tensor, training: Settings) -> None:
        super().__init__(stack, weight, training)
        self.logs = [torch.full_like(w, START) for w in self.weights]

    def add_gradient(self) -> None:
        epsilon = self.training.epsilon
        for w, rho in zip(self.weights, self.logs, strict=True):
            eta = self.weight * rho.exp()
            best = 2 * eta / ((epsilon**2 + 4 * eta).sqrt() + epsilon)  # f'(η) = best²/η²
            gradient(w).add_(w * (self.weight / eta))
            rho.grad = self.weight / 2 * (best.square() - w.square()) / eta

    def retain(self, number: int) -> Tensor:
        return self.logs[number].sigmoid()

    def penalty(self) -> Tensor:
        """(λ/2) Σ [w²/η + f(η)] of each network, in float64: at least λ log ε a weight."""
        found = torch.zeros(len(self.weight), dtype=torch.float64, device=self.weight.device)
        for w, rho in zip(self.weights, self.logs, strict=True):
            eta = self.weight.double() * rho.detach().double().exp()
            terms = w.detach().double().square() / eta + Penalty(self.training.epsilon).dual(eta)
            found += (self.weight.double() / 2 * terms).sum((1, 2))
        return found


class Masked(Plain):
    """Training of the weights that a fixed mask leaves; the others are 0 and stay so."""

    def __init__(self, stack: Stack, weight: Tensor, training: Settings, masks: list[Tensor]) -> None:
        super().__init__(stack, weight, training)
        self.masks = masks
        self.after(lambda w: w, 0.0)

    def after(self, moments: Moments, rate: float) -> None:
        for w, mask in zip(self.weights, self.masks, strict=True):
            w *= mask

    def retain(self, number: int) -> Tensor:
        return self.masks[number]


def gradient(parameter: Tensor) -> Tensor:
    """That of the loss, which is there after a backward pass."""
    assert parameter.grad is not None
    return parameter.grad
