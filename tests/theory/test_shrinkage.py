"""The shrinkage of quadratics, by descent; gentleness, by growing penalties step by step."""

import math

import pytest
import torch

from repro.theory import gentleness, penalized_minimizer, shrinkage


def descended(H, w, penalty, steps=4000):
    found = w.clone()
    for _ in range(steps):
        found -= 0.1 * (H @ (found - w) + penalty * found)
    return found


def test_the_law_on_a_diagonal_and_what_it_is_not_otherwise():
    h, w = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64), torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    found = descended(h.diag(), w, 0.3)
    torch.testing.assert_close(found / w, shrinkage(h, 0.3))
    torch.testing.assert_close(penalized_minimizer(h.diag(), w, 0.3), found)
    assert (shrinkage(h, 0.3).diff() > 0).all()
    mixed = h.diag() + 0.15 * torch.ones(3, 3, dtype=torch.float64)
    found = descended(mixed, w, 0.3)
    torch.testing.assert_close(penalized_minimizer(mixed, w, 0.3), found)
    assert (found / w - shrinkage(mixed.diagonal(), 0.3)).abs().max() > 0.05
    torch.testing.assert_close(penalized_minimizer(mixed, w, 0.0), w)


@pytest.mark.parametrize(("ceiling", "expected"), [(0.05, 0.0025), (1.0, 1.0)])
def test_gentleness(ceiling, expected):
    rate, momentum, step = 5e-5, 0.9, 2.5e-4
    assert gentleness(rate, momentum, ceiling, step) == pytest.approx(expected)
    w, velocity, penalty = 1.0, 0.0, 0.0
    for _ in range(round(ceiling / step)):
        penalty += step
        velocity = momentum * velocity + penalty * w
        w -= rate * velocity
    assert -math.log(w) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shrinkage(torch.zeros(2), 0.1), r"curvature must be in \(0, inf\), got 0.0"),
        (lambda: shrinkage(torch.ones(2), -0.1), r"penalty must be in \[0, inf\), got -0.1"),
        (lambda: penalized_minimizer(-torch.eye(2), torch.ones(2), 0.1), "H must be positive definite"),
        (lambda: penalized_minimizer(torch.eye(2), torch.ones(3), 0.1), "w must have 2 entries in dimension -1"),
        (lambda: penalized_minimizer(torch.ones(2, 3), torch.ones(3), 0.1), "H must have 3 entries in dimension -2"),
        (lambda: gentleness(0.1, 1.0, 1.0, 1.0), r"momentum must be in \[0, 1\), got 1.0"),
        (lambda: gentleness(0.1, 0.9, 1.0, 0.0), r"step must be in \(0, inf\), got 0.0"),
    ],
)  # fmt: skip
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
