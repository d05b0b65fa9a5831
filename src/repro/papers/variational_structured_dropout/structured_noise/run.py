"""Measures each statement beside the matrices, an integral or samples that it is about."""

from collections.abc import Callable
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from repro import theory
from repro.data.linear import load
from repro.dropout import StructuredGaussian
from repro.dropout.structured import Settings
from repro.papers.expectation import agreement
from repro.papers.variational_structured_dropout.structured_noise import Config, Options, expansion, pathologies
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress
from repro.training.monte_carlo import monte_carlo
from repro.training.sweep.noise import Cell

DESCENT_STEPS = 60
MEANS = ("centred", "rotated")


def run(config: Config, progress: Progress) -> Result:
    X, Y = load(config.data)
    options, width = config.options, config.model.width
    spread = cast(Settings, config.dropout.noises()[0]).spread
    table: list[dict[str, object]] = []
    curves: list[dict[str, object]] = []
    drawn: dict[str, list[np.ndarray]] = {"rotation_ratio": []}
    with progress.phase("structured noise", total=config.networks) as bar:
        for seed in config.seed:
            for retain in config.dropout.rates():
                for reflections in options.reflections:
                    for noise_mean in MEANS:
                        masks = _noise(width, reflections, noise_mean, spread, retain, seed)
                        cell = Cell(masks, seed)
                        row, step, ratios = _measured(cell, masks, X, Y, options)
                        place: dict[str, object] = {"cell": len(table), "seed": seed, "reflections": reflections}
                        place |= {"noise_mean": noise_mean, "retain": retain}
                        table.append(place | row)
                        curves.append({"cell": place["cell"], "step": 0} | step)
                        drawn["rotation_ratio"].append(ratios)
                        bar.advance()
    arrays = {name: np.stack(values) for name, values in drawn.items()}
    arrays |= pathologies.measured(config.seed, width, options.columns) | expansion.measured(config.seed)
    cells, curve = pd.DataFrame(table), pd.DataFrame(curves)
    return Result(cells, curve, arrays, _headline(cells, curve, arrays))


def _noise(
    width: int, reflections: int, noise_mean: str, spread: float, retain: float, seed: int
) -> StructuredGaussian:
    """Rates a geometric series of that spread, of Dropout's strength (1−θ)/θ on average; random reflections."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(reflections, width, generator=generator, dtype=torch.float64)
    rates = spread ** -torch.linspace(0, 1, width, dtype=torch.float64)
    return StructuredGaussian(rates / rates.mean() * (1 - retain) / retain, vectors, noise_mean)


def _measured(
    cell: Cell, masks: StructuredGaussian, X: Tensor, Y: Tensor, options: Options
) -> tuple[dict[str, object], dict[str, object], np.ndarray]:
    """The row of a cell, what Monte Carlo says of its objective, and what random rotations cost."""
    generator = cell.generator("network")

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    A, B = normal(len(Y), masks.width) / masks.width**0.5, normal(masks.width, len(X))
    gram, C = theory.noise_gram(A, B.mT, X), masks.covariance
    fit = (Y - (A * masks.mean) @ B @ X).square().sum()
    exact = fit + (C * gram).sum()
    step = _sampled(cell, masks, (A, B, X, Y), exact, options.monte_carlo_masks)
    step |= {"deterministic": float(exact), "fit": float(fit)}
    step |= {"unrotated": float(fit + (masks.rates * gram.diagonal()).sum())}
    row, ratios = _rotations(gram, masks.rates, normal, options.rotations)
    return row | _divergences(cell, masks, normal, options), step, ratios


def _sampled(
    cell: Cell, masks: StructuredGaussian, network: tuple[Tensor, ...], exact: Tensor, count: int
) -> dict[str, object]:
    A, B, X, Y = network
    generator, hidden = cell.generator("measurement"), B @ X
    # ‖Y − A diag(z) H‖² = ‖Y‖² − 2 zᵀ diag(AᵀY Hᵀ) + zᵀ G z
    linear, gram = ((A.mT @ Y) * hidden).sum(-1), (A.mT @ A) * (hidden @ hidden.mT)

    def losses(number: int) -> Tensor:
        z = masks.sample(number, generator, torch.float64)
        return (Y.square().sum() - 2 * z @ linear + ((z @ gram) * z).sum(-1))[None]

    mean, error, again = monte_carlo(losses, exact[None], count)
    return {"monte_carlo": float(mean), "standard_error": float(error), "remeasured": bool(again)}


def _rotations(
    gram: Tensor, rates: Tensor, normal: Callable[..., Tensor], count: int
) -> tuple[dict[str, object], np.ndarray]:
    """What the best rotation saves, and whether search finds a better one."""
    width = len(rates)
    best, least = theory.best_rotation(gram, rates)
    random = torch.linalg.qr(normal(count, width, width))[0]

    def cost(U: Tensor, at: Tensor) -> Tensor:
        return (((U * at) @ U.mT) * gram).sum((-2, -1))

    searched, start = float(cost(random, rates).min()), random[cost(random, rates).argmin()]
    turn = torch.zeros(width, width, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([turn], max_iter=DESCENT_STEPS, line_search_fn="strong_wolfe")

    def turned() -> Tensor:
        return cost(torch.linalg.matrix_exp(turn - turn.mT) @ start, rates) / least

    def closure() -> Tensor:
        search.zero_grad()
        value = turned()
        value.backward()
        return value

    search.step(closure)
    equal = cost(random, equal_rates(rates))
    ones = torch.ones_like(gram)
    saved = theory.best_rotation(ones, rates)[1] / rates.sum() / (rates.min() / rates.mean())
    row: dict[str, object] = {
        "rotation_searched": min(searched / float(least), float(turned().detach()), float(cost(best, rates) / least)),
        "rotation_saves": float(least / (rates * gram.diagonal()).sum()),
        "equal_rates_spread": float(equal.max() / equal.min() - 1),
        "equal_units_ratio": float(saved),
    }
    return row, (cost(random, rates) / least).numpy()


def equal_rates(rates: Tensor) -> Tensor:
    """The null case: all rates their mean."""
    return rates.mean().expand_as(rates)


def _divergences(
    cell: Cell, masks: StructuredGaussian, normal: Callable[..., Tensor], options: Options
) -> dict[str, object]:
    """The three divergences against their Gaussians, and the first by samples."""
    K, Q = masks.width, options.columns
    weights, sigma2, prior, gamma = normal(K, Q), normal(K, Q).exp(), normal(K, Q).exp(), 1.7
    mean, C, rates = masks.mean, masks.covariance, masks.rates
    fixed = theory.kl_normal(weights, mean, C.diagonal(), rates, prior)
    learned = theory.kl_empirical_bayes(mean, C.diagonal(), rates, Q)
    both = theory.kl_hierarchical(weights, sigma2, mean, C.diagonal(), rates, prior, gamma)
    best = weights.square() * (mean.square() + C.diagonal())[:, None]
    # In float64 a tiny mean of the rotated noise takes digits off the matrices, not off the formula: 1e-9 has room.
    pairs = [
        (fixed, _columns(weights, mean, C, prior)),
        (learned, _columns(weights, mean, C, best)),
        (both, pathologies.joint_kl(weights, sigma2, mean, C, prior, gamma)),
    ]
    identity = Q * (torch.log1p(mean.square() / C.diagonal()).sum() / 2 + theory.total_correlation(C))
    generator = cell.generator("divergence")
    w, s = weights[:, 0], prior[:, 0]
    q = MultivariateNormal(mean * w, scale_tril=torch.linalg.cholesky(w[:, None] * C * w))

    def logs(number: int) -> Tensor:
        x = masks.sample(number, generator, torch.float64) * w
        return (q.log_prob(x) + (x.square() / s + torch.log(2 * torch.pi * s)).sum(-1) / 2)[None]

    exact = theory.kl_normal(weights[:, :1], mean, C.diagonal(), rates, prior[:, :1])
    found, error, _ = monte_carlo(logs, exact[None], options.monte_carlo_masks)
    return {
        "kl_normal": float(fixed),
        "kl_empirical_bayes": float(learned),
        "kl_hierarchical": float(both),
        "divergence_distance": max(abs(float(a / b) - 1) for a, b in pairs),
        "divergence_errors": abs(float((found - exact) / error)),
        "correlation_distance": abs(float(identity / learned) - 1),
        "smallest_mean": float(mean.abs().min()),
    }


def _columns(weights: Tensor, mean: Tensor, C: Tensor, prior: Tensor) -> Tensor:
    """KL of independent columns, each a K-dimensional Gaussian written out."""
    w, s = weights.mT, prior.mT
    q = MultivariateNormal(mean * w, w[:, :, None] * C * w[:, None])
    return kl_divergence(q, MultivariateNormal(torch.zeros_like(w), torch.diag_embed(s))).sum()


def _headline(cells: pd.DataFrame, curves: pd.DataFrame, arrays: dict[str, np.ndarray]) -> dict[str, float]:
    return agreement(curves) | {
        "largest relative distance of a divergence from its matrices": float(cells.divergence_distance.max()),
        "least cost of a searched rotation over the best one": float(cells.rotation_searched.min()),
        "median share of the penalty that the best rotation leaves": float(cells.rotation_saves.median()),
        "smallest |mean| of rotated noise": float(cells[cells.noise_mean == "rotated"].smallest_mean.min()),
        "largest distance of the sigmoid fit": float(np.abs(arrays["fit"] - arrays["exact"]).max()),
    }
