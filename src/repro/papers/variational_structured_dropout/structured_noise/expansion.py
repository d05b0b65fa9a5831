"""The second order of a loss that is not quadratic, against the expectation by Gauss–Hermite quadrature."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

SCALES = 2.0 ** -np.arange(2, 9)
WIDTH, CLASSES, POINTS = 3, 4, 24


def measured(seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """|E ℓ − ℓ(m) − first order in C| against the scale of C, with and without the network's own curvature."""
    rows = [_errors(seed) for seed in seeds]
    return {
        "scale": SCALES,
        "expansion_error": np.stack([whole for whole, _ in rows]),
        "expansion_without": np.stack([without for _, without in rows]),
    }


def _errors(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy of a tanh network f(z) = A tanh(B z) with noise on its three inputs."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    A, B, U = normal(CLASSES, 5), normal(5, WIDTH), torch.linalg.qr(normal(WIDTH, WIDTH))[0]
    C, center = (U * torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)) @ U.mT, torch.ones(WIDTH, dtype=torch.float64)

    def network(z: Tensor) -> Tensor:
        return torch.tanh(z @ B.mT) @ A.mT

    def loss(f: Tensor) -> Tensor:
        return -torch.log_softmax(f, -1)[..., 0]

    J = torch.autograd.functional.jacobian(network, center)
    H = torch.autograd.functional.hessian(loss, network(center))
    slope = torch.autograd.functional.jacobian(loss, network(center))
    curvature = torch.autograd.functional.hessian(lambda z: slope @ network(z), center)
    first, own = (C * (J.mT @ H @ J)).sum() / 2, (C * curvature).sum() / 2
    nodes, weights = np.polynomial.hermite_e.hermegauss(POINTS)
    grid = torch.tensor(list(product(nodes, repeat=WIDTH)), dtype=torch.float64)
    mass = torch.tensor(list(product(weights / weights.sum(), repeat=WIDTH)), dtype=torch.float64).prod(-1)
    root = torch.linalg.cholesky(C)
    left = [float(mass @ loss(network(center + s**0.5 * grid @ root.mT)) - loss(network(center))) for s in SCALES]
    rest = np.array(left)
    return np.abs(rest - SCALES * float(first + own)), np.abs(rest - SCALES * float(first))
