"""Sparse variational dropout in three forms: weights w with Gaussian noise of relative variance a, which is learned.

CE + KL/N, with the fit KL = −Σ [k₁σ(k₂ + k₃ log a) − ½ log(1 + 1/a)] of Molchanov, Ashukha, Vetrov (2017). A weight
is kept with the probability 1/(1+a) of a Bernoulli mask of the same variance; at log a >= log 19 that is below 0.05.
"""

import torch
from torch import Tensor

from repro.theory.penalties.implicit import MOLCHANOV
from repro.training.adaptive import Settings
from repro.training.adaptive.methods import Plain, gradient
from repro.training.adaptive.network import Stack

START_LOG = -5.0  # of log a, or of log σ
TINY = 1e-8


class VarDrop(Plain):
    """One draw of all weights a batch; log a is trained."""

    start = 0.02

    def __init__(self, stack: Stack, weight: Tensor, training: Settings) -> None:
        super().__init__(stack, weight, training)
        self.share = self.weight / training.weight / training.divergence_images  # of the divergence, in the loss
        self.logs = [torch.full_like(w, START_LOG) for w in self.weights]

    def layer(self, number: int, x: Tensor) -> Tensor:
        w, log_a = self.weights[number], self.logs[number]
        drawn = torch.randn(w.shape, generator=self.generator, device=w.device)
        return torch.baddbmm(self.biases[number], x, w + w * (log_a / 2).exp() * drawn)

    def log_ratio(self, number: int) -> Tensor:
        """log a of the weights of a layer."""
        return self.logs[number]

    def add_gradient(self) -> None:
        for number, log_a in enumerate(self.logs):
            gradient(log_a).add_(self.slope(number))

    def slope(self, number: int) -> Tensor:
        """∂(KL/N)/∂ log a."""
        k1, k2, k3 = MOLCHANOV
        log_a = self.log_ratio(number)
        rise = (k3 * log_a).add_(k2).sigmoid_()
        rise = torch.addcmul(rise, rise, rise, value=-1).mul_(k1 * k3)
        return rise.add_(log_a.neg().sigmoid_(), alpha=0.5).mul_(-self.share)

    def retain(self, number: int) -> Tensor:
        return torch.sigmoid(-self.log_ratio(number))


class VarDropLR(VarDrop):
    """Local reparametrisation: outputs are drawn, with the mean and variance that drawn weights would give them."""

    def layer(self, number: int, x: Tensor) -> Tensor:
        mean = super(VarDrop, self).layer(number, x)
        drawn = torch.randn(mean.shape, generator=self.generator, device=x.device)
        return mean + (x.square() @ self.variance(number) + TINY).sqrt() * drawn

    def variance(self, number: int) -> Tensor:
        """Of each weight."""
        return self.weights[number].square() * self.logs[number].exp()


class VarDropLRAR(VarDropLR):
    """With an additive σ, a = σ²/w²: the gradient of w is rid of the noise."""

    def variance(self, number: int) -> Tensor:
        return (2 * self.logs[number]).exp()

    def log_ratio(self, number: int) -> Tensor:
        return 2 * (self.logs[number] - self.weights[number].abs().add_(TINY).log_())

    def add_gradient(self) -> None:
        for number, (w, log_sigma) in enumerate(zip(self.weights, self.logs, strict=True)):
            slope = self.slope(number).mul_(2)
            gradient(log_sigma).add_(slope)
            gradient(w).sub_(slope.mul_(w.sign()).div_(w.abs().add_(TINY)))
