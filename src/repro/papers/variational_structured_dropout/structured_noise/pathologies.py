"""Where Variational Dropout goes wrong: an improper prior, a singular posterior, a divergence known by a fit."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import integrate, special
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from repro import theory

EPSILON = 10.0 ** -np.arange(1, 7)
RATES = 10.0 ** np.linspace(-4, 4, 161)


def measured(seeds: Sequence[int], width: int, columns: int) -> dict[str, np.ndarray]:
    """By name, the first dimension over seeds: masses and divergences against ε, and the fit against the integral."""
    masses, kls = [_masses(seed) for seed in seeds], [_singular(seed, width, columns) for seed in seeds]
    exact = np.array([2 * integrate.quad(special.dawsn, 0, (1 / (2 * rate)) ** 0.5)[0] for rate in RATES])
    fit = theory.kl_log_uniform(torch.from_numpy(RATES)[:, None], 1).numpy()
    found = {name: np.stack([item[name] for item in masses]) for name in masses[0]}
    found |= {name: np.stack([item[name] for item in kls]) for name in kls[0]}
    missing = np.full(len(seeds), width * (columns - 1))
    return found | {"epsilon": EPSILON, "missing_dimensions": missing, "rate": RATES, "exact": exact, "fit": fit}


def _masses(seed: int) -> dict[str, np.ndarray]:
    """∫ L(w) p(w) dw over ε < |w| < 1, of the likelihood of one normal observation of w."""
    y, variance = np.random.default_rng(seed).normal(), 0.5

    def likelihood(w: float) -> float:
        return float(np.exp(-((y - w) ** 2) / (2 * variance)))

    def both(w: float) -> float:
        return likelihood(w) + likelihood(-w)

    # In t = log w, so that the improper prior's 1/w is no pole.
    improper = [integrate.quad(lambda t: both(np.exp(t)), np.log(e), 0, epsabs=1e-12)[0] for e in EPSILON]
    normal = [
        integrate.quad(lambda w: both(w) * np.exp(-w * w / 2) / (2 * np.pi) ** 0.5, e, 1, epsabs=1e-12)[0]
        for e in EPSILON
    ]
    return {
        "mass_log_uniform": np.array(improper),
        "mass_normal": np.array(normal),
        "likelihood_at_0": np.array(likelihood(0.0)),
    }


def joint_kl(weights: Tensor, sigma2: Tensor, mean: Tensor, C: Tensor, prior: Tensor, noise_prior: float) -> Tensor:
    """KL of (vec W, z) in the hierarchical model, both as one Gaussian of K(Q + 1) dimensions."""
    K, Q = weights.shape
    maps = torch.cat([*(w.diag() for w in weights.mT), torch.eye(K, dtype=torch.float64)])
    noise = torch.cat([sigma2.mT.flatten(), torch.zeros(K, dtype=torch.float64)])
    variances = torch.cat([prior.mT.flatten(), torch.full((K,), noise_prior, dtype=torch.float64)])
    center = torch.cat([torch.zeros(K * Q, dtype=torch.float64), torch.ones(K, dtype=torch.float64)])
    # In units of the prior, which conditions the posterior's matrix as well as it can be.
    maps, noise = maps / variances.sqrt()[:, None], noise / variances
    posterior = MultivariateNormal(maps @ mean, maps @ C @ maps.mT + noise.diag())
    unit = torch.eye(len(center), dtype=torch.float64)
    return kl_divergence(posterior, MultivariateNormal(center / variances.sqrt(), unit))


def _singular(seed: int, width: int, columns: int) -> dict[str, np.ndarray]:
    """KL(q ‖ N(0, I)) of vec W with ε² added to all variances, for shared and independent columns and for σ² > 0."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(width, columns, generator=generator, dtype=torch.float64)
    U = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]
    C = (U * torch.linspace(0.1, 1, width, dtype=torch.float64)) @ U.mT
    stacked = torch.cat([w.diag() for w in weights.mT])
    blocks = torch.block_diag(*[w[:, None] * C * w for w in weights.mT])
    shared, unit = stacked @ C @ stacked.mT, torch.eye(width * columns, dtype=torch.float64)
    mean = weights.mT.flatten()

    def kl(covariance: Tensor) -> np.ndarray:
        found = []
        for epsilon in EPSILON:
            values = torch.linalg.eigvalsh(covariance).clamp_min(0) + epsilon**2  # not through digits that are lost
            found.append(float((values - 1 - values.log()).sum() + mean.square().sum()) / 2)
        return np.array(found)

    return {"kl_shared": kl(shared), "kl_independent": kl(blocks), "kl_hierarchical": kl(shared + 0.01 * unit)}
