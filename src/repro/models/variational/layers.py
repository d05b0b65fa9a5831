"""Layers with a Gaussian posterior of structured noise, and the ones that they are compared with.

A layer draws from its attribute `generator` while `noisy` is true, and computes with its posterior's mean otherwise.
`copies` stacks independent layers: parameters (copies, …), values (copies, N, …), one batch for all.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from repro import theory
from repro.theory.householder import compact, covariance_diagonal, reflected, rotated_noise

Prior = Literal["normal", "empirical_bayes", "hierarchical", "log_uniform"]
Sampling = Literal["local", "pairs", "weights"]
Several = Float[Tensor, "..."]

RANGE = (-14.0, 8.0)
"""In which log α stays: beyond, float32 has nothing to say."""


class Layer(nn.Module):
    """Θ (*copies, K, Q) and a bias (*copies, Q), which is outside the noise. Without noise of its own: MAP."""

    def __init__(self, inputs: int, outputs: int, generator: Generator, copies: tuple[int, ...] = ()) -> None:
        super().__init__()
        bound = math.sqrt(6 / inputs)
        start = torch.rand(*copies, inputs, outputs, generator=generator) * 2 - 1
        self.weight = nn.Parameter(start * bound)
        self.bias = nn.Parameter(torch.zeros(*copies, outputs))
        self.generator: Generator | None = None
        self.noisy = True

    @property
    def mean_weight(self) -> Several:
        """E W."""
        return self.weight

    def kl(self) -> Several:
        """In nats, (*copies,): of a point estimate −log N(0, 1) but for its constant."""
        return self.weight.square().sum((-2, -1)) / 2

    def forward(self, values: Several) -> Several:
        return self.noise(values) if self.noisy else self.affine(values, self.mean_weight)

    def noise(self, values: Several) -> Several:
        """A draw."""
        return self.affine(values, self.weight)

    def affine(self, values: Several, weight: Several) -> Several:
        return values @ weight + self.bias[..., None, :]

    def normal(self, like: Several) -> Several:
        return torch.empty_like(like).normal_(generator=self._source())

    def _source(self) -> Generator:
        if self.generator is None:
            raise RuntimeError(f"{type(self).__name__} has no generator; set .generator before it draws")
        return self.generator


class DropoutLinear(Layer):
    """Dropout of the inputs at drop probability `rate`, at training and at testing: MC dropout."""

    def __init__(
        self, inputs: int, outputs: int, generator: Generator, copies: tuple[int, ...] = (), *, rate: float
    ) -> None:
        super().__init__(inputs, outputs, generator, copies)
        self.rate = rate

    def noise(self, values: Several) -> Several:
        kept = torch.empty_like(values).bernoulli_(1 - self.rate, generator=self._source())
        return self.affine(values * kept / (1 - self.rate), self.weight)


class MeanFieldLinear(Layer):
    """W ~ Π N(θ_ij, σ_ij²) with the prior N(0, `prior_variance`), locally reparametrised."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        generator: Generator,
        copies: tuple[int, ...] = (),
        *,
        prior_variance: float,
        deviation: float = 0.05,
    ) -> None:
        super().__init__(inputs, outputs, generator, copies)
        self.log_deviation = nn.Parameter(torch.full_like(self.weight, math.log(deviation)))
        self.prior_variance = prior_variance

    def kl(self) -> Several:
        variance = (2 * self.log_deviation).exp()
        terms = (variance + self.weight.square()) / self.prior_variance - 1 - torch.log(variance / self.prior_variance)
        return terms.sum((-2, -1)) / 2

    def noise(self, values: Several) -> Several:
        mean = self.affine(values, self.weight)
        variance = values.square() @ (2 * self.log_deviation).exp()
        return mean + _root(variance) * self.normal(mean)


class VariationalLinear(Layer):
    """W = diag(z)Θ with structured noise z of mean m and covariance C = U diag(α) Uᵀ, U of T Householder reflections.

    T = 0 is Variational Dropout. The reflections are applied to vectors at O(TK); no K×K matrix is formed.

    Args:
        inputs: K.
        outputs: Q.
        generator: draws the start.
        copies: of independent layers.
        reflections: T.
        noise_mean: `centred` (1) or `rotated` (U1).
        columns: `independent`: each column of W has a z of its own. `shared`: all have one, drawn for each row of the
            values.
        prior: of W: N(0, s) with a fixed s (`normal`) or the best one for each weight (`empirical_bayes`), both of
            independent columns; `hierarchical`, with a variance for each weight and p(z) = N(1, γI);
            `log_uniform`, Variational Dropout's, T = 0.
        rate: the first α.
        learned: whether the reflections are.
        tied: whether all inputs of a layer have one α.
        sampling: of independent columns. `local`: outputs of every row from their own exact distribution (local
            reparametrisation), at 2T further products with Θ. `pairs`: one draw E W + Δ for the first half of the rows
            and E W − Δ for the others, whose noise cancels on average as that of rows drawn apart does: a product
            less than `local` needs at T = 0. `weights`: one W for all rows. Every row has the same distribution in all
            three. Without a choice `local` at T = 0 and `pairs` otherwise.

    Raises:
        ValueError: T > K, α ≤ 0, or a combination that has no divergence.
    """

    ROWS = -2
    """The dimension of values along which examples stand."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        generator: Generator,
        copies: tuple[int, ...] = (),
        *,
        reflections: int = 0,
        noise_mean: Literal["centred", "rotated"] = "centred",
        columns: Literal["independent", "shared"] = "independent",
        prior: Prior = "empirical_bayes",
        prior_variance: float = 1.0,
        noise_prior: float = 1.0,
        rate: float = 0.1,
        learned: bool = True,
        tied: bool = False,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__(inputs, outputs, generator, copies)
        if not 0 <= reflections <= inputs:
            raise ValueError(f"reflections must be in 0..{inputs}, one for each input, got {reflections}")
        if not rate > 0:
            raise ValueError(f"rate must be positive, got {rate}")
        if prior == "log_uniform" and reflections:
            raise ValueError("prior=log_uniform has a divergence for reflections=0 alone")
        if (prior == "hierarchical") != (columns == "shared"):
            raise ValueError(f"prior={prior} with columns={columns}: infinite; hierarchical goes with shared columns")
        self.columns, self.prior, self.noise_mean = columns, prior, noise_mean
        self.sampling: Sampling = sampling or ("pairs" if reflections else "local")
        self.prior_variance, self.noise_prior = prior_variance, noise_prior
        self.log_rates = nn.Parameter(torch.full((*copies, 1 if tied else inputs), math.log(rate)))
        # Drawn apart, so that the weights start alike whatever T is.
        apart = Generator().manual_seed(generator.initial_seed() ^ inputs ^ outputs << 20)
        vectors = torch.randn(*copies, reflections, inputs, generator=apart)
        if learned:
            # A reflection along an axis leaves a covariance that is diagonal: the start is near that of T = 0.
            axes = torch.randint(inputs, (*copies, reflections), generator=apart)
            vectors = nn.functional.one_hot(axes, inputs) + vectors * (0.1 / math.sqrt(inputs))
        self.vectors = nn.Parameter(vectors, requires_grad=learned and reflections > 0)
        if prior == "hierarchical":
            self.log_deviation = nn.Parameter(torch.full_like(self.weight, math.log(0.05)))

    @property
    def rates(self) -> Several:
        """α, (*copies, K)."""
        rates = self.log_rates.clamp(*RANGE).exp()
        return rates.expand(*rates.shape[:-1], self.weight.shape[-2])

    @property
    def mean(self) -> Several:
        """m, (*copies, K)."""
        ones = torch.ones_like(self.rates)
        return ones if self.noise_mean == "centred" else reflected(ones[..., None, :], self.vectors)[..., 0, :]

    @property
    def mean_weight(self) -> Several:
        if self.noise_mean == "centred" or not self.vectors.shape[-2]:
            return self.weight
        return self.mean[..., None] * self.weight

    def kl(self) -> Several:
        rates, columns = self.rates, self.weight.shape[-1]
        if self.prior == "log_uniform":
            return theory.kl_log_uniform(rates, columns)
        variance = covariance_diagonal(rates, self.vectors)
        if self.prior == "empirical_bayes":
            return theory.kl_empirical_bayes(self.mean, variance, rates, columns)
        if self.prior == "normal":
            return theory.kl_normal(self.weight, self.mean, variance, rates, self.prior_variance)
        own = (2 * self.log_deviation).exp()
        return theory.kl_hierarchical(
            self.weight, own, self.mean, variance, rates, self.prior_variance, self.noise_prior
        )

    def noise(self, values: Several) -> Several:
        if self.columns == "shared":
            mean = self.affine(values * self._shared(values), self.weight)
            return mean + _root(values.square() @ (2 * self.log_deviation).exp()) * self.normal(mean)
        if self.sampling == "local":
            mean = self.affine(values, self.mean_weight)
            return mean + _root(self._variance(values)) * self.normal(mean)
        weight, off = self.mean_weight, self.weight * self._draw(self.weight)
        if self.sampling == "weights":
            return self.affine(values, weight + off)
        first, second = values.tensor_split([(values.shape[self.ROWS] + 1) // 2], self.ROWS)
        return torch.cat([self.affine(first, weight + off), self.affine(second, weight - off)], self.ROWS)

    def _shared(self, like: Several) -> Several:
        """z in rows, of the shape (…, n, K) of `like`."""
        noise = self.normal(like) * self.rates.sqrt()[..., None, :]
        return self.mean[..., None, :] + reflected(noise, self.vectors)

    def _draw(self, like: Several) -> Several:
        """z − m in columns, of the shape (…, K, n) of `like`."""
        return rotated_noise(self.normal(like), self.rates, self.vectors)

    def _variance(self, values: Several) -> Several:
        """hᵀ D_j C D_j h of each row h and column j: C = diag α + L Pᵀ + P Lᵀ, L and P of T columns each."""
        rates = self.rates
        variance = values.square() @ (rates[..., None] * self.weight.square())
        if not self.vectors.shape[-2]:
            return variance
        left, rows = compact(self.vectors)
        weighted = rows * rates[..., None, :]
        right = (weighted @ rows.mT) @ left / 2 - weighted
        # One product with all 2T scalings of Θ side by side, (*copies, K, 2TQ).
        scaled = (torch.cat([left, right], -2).mT[..., None] * self.weight[..., None, :]).flatten(-2)
        first, second = (values @ scaled).unflatten(-1, (2, -1, self.weight.shape[-1])).unbind(-3)
        return variance + 2 * (first * second).sum(-2)


class VariationalConv2d(VariationalLinear):
    """A convolution with the noise on its input channels: K channels, Q = outputs × window columns.

    Local reparametrisation is not exact here, for neighbouring places share a kernel: `shared` columns have a z for
    each image, `independent` ones a kernel for each half of a batch, or for all of it.
    """

    ROWS = 0

    def __init__(
        self, channels: int, outputs: int, window: int, generator: Generator, *, padding: int = 0, **noise: object
    ) -> None:
        super().__init__(channels, outputs * window**2, generator, **noise)  # type: ignore[arg-type]
        with torch.no_grad():
            self.weight.div_(window)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.window, self.padding = window, padding
        if self.sampling == "local":
            self.sampling = "pairs"

    def affine(self, values: Several, weight: Several) -> Several:
        return self._convolved(values, weight, self.bias)

    def noise(self, values: Several) -> Several:
        if self.columns == "independent":
            return super().noise(values)
        z = self._shared(values.new_empty(len(values), values.shape[1]))
        mean = self.affine(values * z[..., None, None], self.weight)
        variance = self._convolved(values.square(), (2 * self.log_deviation).exp(), None)
        return mean + _root(variance) * self.normal(mean)

    def _convolved(self, values: Several, weight: Several, bias: Several | None) -> Several:
        kernel = weight.view(len(weight), -1, self.window, self.window).transpose(0, 1)
        return nn.functional.conv2d(values, kernel, bias, padding=self.padding)


def _root(variance: Several) -> Several:
    """√v with a gradient at 0, where all inputs are."""
    return variance.clamp_min(1e-12).sqrt()
