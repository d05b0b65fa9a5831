"""Minimises KL(q ‖ posterior) over structured noise, number of reflections by number of reflections."""

import math
from collections.abc import Callable
from itertools import product
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro import theory
from repro.data.linear import whiten
from repro.papers.variational_structured_dropout.structured_posterior import Config
from repro.papers.variational_structured_dropout.structured_posterior.lbfgs import minimise
from repro.pipeline.settings import implementation
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress
from repro.theory.householder import covariance_diagonal, factors, reflected
from repro.training.sweep.noise import seeded_generator

MEANS = ("centred", "rotated")
# How far from the family before it a warm start is thrown.
THROWN = 0.3
# Inputs below which there are more descents than asked for, which cost little.
MANY = 16


class Regression(NamedTuple):
    """One target with its exact posterior N(μ, Λ⁻¹), Λ = LLᵀ; or several, stacked."""

    X: Tensor
    y: Tensor
    precision: Tensor
    center: Tensor
    root: Tensor

    @classmethod
    def of(cls, X: Tensor, y: Tensor, noise_variance: float) -> "Regression":
        precision = torch.eye(len(X), dtype=torch.float64) + X @ X.mT / noise_variance
        center, root = torch.linalg.solve(precision, X @ y / noise_variance), torch.linalg.cholesky(precision)
        return cls(X, y, precision, center, root)

    def evidence(self, noise_variance: float) -> Tensor:
        """log N(y; 0, XᵀX + σ²I)."""
        unit = torch.eye(self.y.shape[-1], dtype=torch.float64)
        covariance = self.X.mT @ self.X + noise_variance * unit
        return torch.distributions.MultivariateNormal(torch.zeros_like(self.y), covariance).log_prob(self.y)

    @property
    def mean_field_gap(self) -> Tensor:
        diagonal = self.precision.diagonal(dim1=-2, dim2=-1)
        return (diagonal.log().sum(-1) - torch.logdet(self.precision)) / 2


class Posterior(NamedTuple):
    """θ, log α and the reflections of a batch of posteriors, (n, K), (n, K), (n, T, K); which have the rotated mean."""

    weights: Tensor
    log_rates: Tensor
    vectors: Tensor
    rotated: Tensor

    @classmethod
    def at(cls, points: Tensor, regression: Regression, rotated: Tensor) -> "Posterior":
        """From (τ, log α + log θ², v) in a row, with E w = m∘θ = μ + L⁻ᵀτ for Λ = LLᵀ: coordinates in which the misfit
        of the mean is ½‖τ‖² however ill-conditioned Λ is, and apart from the variances at T = 0."""
        width = regression.center.shape[-1]
        vectors = points[:, 2 * width :].reshape(len(points), -1, width)
        found = cls(torch.ones_like(regression.center), points[:, width : 2 * width], vectors, rotated)
        off = torch.linalg.solve_triangular(regression.root.mT, points[:, :width, None], upper=True)[..., 0]
        weights = (regression.center + off) / found.mean
        return found._replace(weights=weights, log_rates=found.log_rates - weights.square().log())

    def points(self, regression: Regression) -> Tensor:
        off = self.mean * self.weights - regression.center
        scales = self.log_rates + self.weights.square().log()
        return torch.cat([(off[:, None] @ regression.root)[:, 0], scales, self.vectors.flatten(1)], 1)

    @property
    def mean(self) -> Tensor:
        """m, (n, K)."""
        ones = torch.ones_like(self.weights)
        return torch.where(self.rotated[:, None], reflected(ones[:, None], self.vectors)[:, 0], ones)

    def covariance(self) -> Tensor:
        """D C D, (n, K, K)."""
        unit = torch.eye(self.weights.shape[1], dtype=self.weights.dtype).expand(len(self.weights), -1, -1)
        rows = reflected(unit, self.vectors) * self.weights[:, None]  # row k is D u_k, as the unit's rows are e_k
        return rows.mT @ (self.log_rates.exp()[..., None] * rows)


def gap(posterior: Posterior, regression: Regression) -> Tensor:
    """KL(q ‖ N(μ, Λ⁻¹)), (n,)."""
    precision, width = regression.precision, regression.center.shape[-1]
    off = posterior.mean * posterior.weights - regression.center
    trace = (posterior.covariance() * precision).sum((-2, -1))
    logdet = (posterior.weights.square().log() + posterior.log_rates).sum(-1)
    square = (off[:, None] @ precision @ off[..., None])[:, 0, 0]
    return (trace + square - width - torch.logdet(precision) - logdet) / 2


def elbo(posterior: Posterior, regression: Regression, noise_variance: float) -> Tensor:
    """E log p(y | X, w) − KL(q ‖ N(0, I)), (n,), by the divergence that theory gives."""
    X, y = regression.X, regression.y
    mean, rates = posterior.mean, posterior.log_rates.exp()
    left = y - ((mean * posterior.weights)[:, None] @ X)[:, 0]
    trace = (posterior.covariance() * (X @ X.mT)).sum((-2, -1))
    fit = -(left.square().sum(-1) + trace) / (2 * noise_variance)
    constant = y.shape[-1] / 2 * math.log(2 * math.pi * noise_variance)
    variances = covariance_diagonal(rates, posterior.vectors)
    return fit - constant - theory.kl_normal(posterior.weights[..., None], mean, variances, rates, 1.0)


def run(config: Config, progress: Progress) -> Result:
    tables: list[pd.DataFrame] = []
    arrays: dict[str, np.ndarray] = {}
    options, variance = config.options, config.options.noise**2
    with progress.phase("structured posteriors", total=config.networks) as bar:
        for inputs in options.inputs:
            places, regression = _regressions(config, inputs)
            rotated = torch.tensor([place["noise_mean"] == "rotated" for place in places])
            best: Posterior | None = None
            for count in options.of(inputs):
                generator = seeded_generator(f"posteriors {config.seed} {inputs} {count}")
                best, searched = fitted(config, regression, rotated, count, best, generator)
                found = {
                    "gap": gap(best, regression).clamp_min(0),
                    "searched_gap": searched.clamp_min(0),
                    "elbo": elbo(best, regression, variance),
                    "evidence": regression.evidence(variance),
                    "mean_field_gap": regression.mean_field_gap,
                    "smallest_mean": best.mean.abs().min(-1).values,
                }
                columns = {name: values.numpy() for name, values in found.items()}
                tables.append(pd.DataFrame(places).assign(inputs=inputs, reflections=count, **columns))
                if inputs == options.inputs[0]:
                    arrays["exact_covariance"] = torch.linalg.inv(regression.precision[0]).numpy()
                    arrays[f"covariance_{count}"] = best.covariance()[0].numpy()
                bar.advance(len(places))
    cells = pd.concat(tables, ignore_index=True).rename_axis("cell").reset_index()
    return Result(cells, arrays=arrays, headline=_headline(cells))


def _regressions(config: Config, inputs: int) -> tuple[list[dict[str, object]], Regression]:
    """For every seed, design and mean: the correlated inputs, or the same target on whitened ones, as large."""
    data = config.data
    read = cast(Callable[[object], tuple[Tensor, Tensor]], implementation(data, "load"))
    places, found = [], []
    for seed in config.seed:
        changes = {"in_features": inputs, "rank": 1, "out_features": 1, "noise": config.options.noise}
        changes |= {"seed": data.seed + seed}
        X, Y = read(data.model_copy(update=changes))
        both = {"correlated": X, "orthogonal": whiten(X) * data.samples**0.5}
        for design, noise_mean in product(both, MEANS):
            places.append({"seed": seed, "design": design, "noise_mean": noise_mean})
            found.append(Regression.of(both[design], Y[0], config.options.noise**2))
    return places, Regression(*(torch.stack(parts) for parts in zip(*found, strict=True)))


def fitted(
    config: Config,
    regression: Regression,
    rotated: Tensor,
    reflections: int,
    before: Posterior | None,
    generator: torch.Generator,
) -> tuple[Posterior, Tensor]:
    """Of each regression the best of several descents with T reflections, and the least gap of those that search.

    The first ones start at the best with fewer reflections: one along an axis, applied first, changes no covariance, so
    the family with fewer is part of this. With K − 1 a further one starts at the posterior that is exact with mean 1.
    """
    problems, width = regression.center.shape
    restarts = config.options.restarts * max(1, MANY // width)

    def normal(*shape: int) -> Tensor:
        return torch.randn(problems, restarts, *shape, generator=generator, dtype=torch.float64)

    diagonal = regression.precision.diagonal(dim1=-2, dim2=-1)[:, None]
    off, rates, vectors = 0.3 * normal(width), 0.5 * normal(width), normal(reflections, width)
    off[:, 0], rates[:, 0] = 0, 0
    rates = rates - diagonal.log()  # the mean field's
    start = torch.cat([off, rates, vectors.flatten(2)], 2)
    if before is not None:
        held, warm = before.points(regression), (restarts + 1) // 2
        added = reflections - before.vectors.shape[1]
        axes = torch.randint(width, (problems, warm, added), generator=generator)
        new = torch.nn.functional.one_hot(axes, width).double()
        new[:, 1:] += THROWN * vectors[:, 1:warm, :added]  # the first is the family before, exactly
        start[:, :warm, : 2 * width] = held[:, None, : 2 * width]
        start[:, :warm, 2 * width :] = torch.cat([new.flatten(2), held[:, None, 2 * width :].expand(-1, warm, -1)], 2)
    if reflections == width - 1:
        start = torch.cat([start, exact(regression).points(regression)[:, None]], 1)
    descents = start.shape[1]
    many = Regression(*(part.repeat_interleave(descents, 0) for part in regression))
    turned = rotated.repeat_interleave(descents, 0)

    def value(points: Tensor) -> Tensor:
        return gap(Posterior.at(points, many, turned), many)

    points = minimise(value, start.flatten(0, 1), config.options.iterations)
    found = value(points).view(problems, descents)
    best = found.argmin(1) + descents * torch.arange(problems)
    return Posterior.at(points[best].detach(), regression, rotated), found[:, :restarts].min(1).values


def exact(regression: Regression) -> Posterior:
    """The posterior as structured noise of mean 1: θ = μ, C = D⁻¹Λ⁻¹D⁻¹ = U diag(α) Uᵀ, U of K − 1 reflections."""
    weights = regression.center
    covariance = torch.cholesky_inverse(regression.root) / (weights[:, :, None] * weights[:, None])
    rates, rotation = torch.linalg.eigh((covariance + covariance.mT) / 2)
    centred = torch.zeros(len(weights), dtype=torch.bool)
    return Posterior(weights, rates.clamp_min(1e-300).log(), factors(rotation), centred)


def _headline(cells: pd.DataFrame) -> dict[str, float]:
    correlated = cells[cells.design == "correlated"]
    full = correlated[correlated.reflections == correlated.inputs - 1]
    by = {name: full[full.noise_mean == name].gap for name in MEANS}
    return {
        "mean field's gap on correlated inputs, median, nats": float(correlated.mean_field_gap.median()),
        "largest gap at T = K - 1, centred": float(by["centred"].max()),
        "the same, of descents that search": float(full[full.noise_mean == "centred"].searched_gap.max()),
        "smallest gap at T = K - 1, rotated": float(by["rotated"].min()),
        "smallest |mean|, rotated": float(cells[cells.noise_mean == "rotated"].smallest_mean.min()),
    }
