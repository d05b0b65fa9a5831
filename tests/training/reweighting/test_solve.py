"""Reweighting and proximal gradient descent on problems with known answers, and masks' moments."""

import pytest
import torch

from repro.data.sparse_regression import Settings as SparseRegression
from repro.data.sparse_regression.load import load
from repro.theory.penalties import L1, MCP, LogSum
from repro.training.reweighting import Settings
from repro.training.reweighting.masks import draw, trained_under_masks
from repro.training.reweighting.problem import Cells
from repro.training.reweighting.solve import proximal_gradient, reweighted

PENALTIES = [L1(), LogSum(0.5), MCP(1.0, 1.5)]
TRAINING = Settings(
    kind="reweighting", iterations=20000, tolerance=1e-13, steps=2000, masks_per_step=4, learning_rate=0.3
)


def orthonormal(z, weight, penalties=PENALTIES):
    """XᵀX = 1: the solution is the prox of z, entry by entry."""
    count = len(penalties)
    moment = z.expand(count, -1)
    weights = torch.full((count,), weight, dtype=torch.float64)
    gram = torch.eye(len(z), dtype=torch.float64).expand(count, -1, -1)
    return Cells(gram, moment, moment.square().sum(1) / 2, weights, penalties)


def regression(penalties, weight, seed=0):
    settings = SparseRegression(kind="sparse_regression", samples=40, features=60, nonzeros=4, noise=0.02, seed=seed)
    X, y, truth = load(settings, 0)
    count = len(penalties)
    ones = torch.ones(count, dtype=torch.float64)
    cells = Cells(
        (X.mT @ X).expand(count, -1, -1), (X.mT @ y).expand(count, -1), ones * (y @ y) / 2, ones * weight, penalties
    )
    return cells, truth


def test_an_orthonormal_design_gives_the_prox():
    z = torch.tensor([0.0, 0.05, -0.19, 0.21, -0.5, 1.0, 3.0], dtype=torch.float64)
    cells = orthonormal(z, 0.2)
    expected = torch.stack([penalty.prox(z, 0.2) for penalty in PENALTIES])
    found = reweighted(cells, z.expand(3, -1), 20000, 1e-13).weights
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(proximal_gradient(cells, z.expand(3, -1), 5000, 1e-14).weights, expected)
    # zero is absorbing, wherever the penalty has a slope there
    nothing = reweighted(cells, torch.zeros_like(expected), 100, 1e-13).weights
    assert (nothing[:, z.abs() < 0.2] == 0).all()


def test_both_end_at_stationary_points_of_one_height():
    cells, _ = regression(PENALTIES, 0.1)
    start = torch.ones(3, 60, dtype=torch.float64)
    one = reweighted(cells, start, 20000, 1e-13).weights
    two = proximal_gradient(cells, start, 20000, 1e-14).weights
    assert (cells.residual(one) < 1e-9).all()
    assert (cells.residual(two) < 1e-9).all()
    torch.testing.assert_close(cells.objective(one), cells.objective(two), rtol=1e-10, atol=0)
    assert ((one != 0) == (two != 0)).all()


def test_the_residual_sees_what_is_not_stationary():
    cells, _ = regression(PENALTIES, 0.1)
    found = reweighted(cells, torch.ones(3, 60, dtype=torch.float64), 20000, 1e-13).weights
    assert (cells.residual(found * 1.001) > 1e-4).all()
    assert (cells.residual(torch.where(found.abs() < found.abs().amax(1, keepdim=True), found, 0.0)) > 0.1).all()
    assert (cells.residual(torch.zeros_like(found)) > 0.1).all()


def test_rows_do_not_know_each_other():
    cells, _ = regression(PENALTIES, 0.1)
    start = torch.ones(3, 60, dtype=torch.float64)
    together = reweighted(cells, start, 20000, 1e-13).weights
    alone = [reweighted(cells[torch.tensor([i])], start[:1], 20000, 1e-13).weights[0] for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-8, atol=1e-10)


def test_a_weight_that_must_come_back_does():
    """Two columns that share one signal: the second is needed once the first has shrunk."""
    cells, _ = regression([L1()], 0.1)
    start = torch.zeros(1, 60, dtype=torch.float64)  # everything starts at the absorbing point
    found = reweighted(cells, start, 20000, 1e-13).weights
    assert (cells.residual(found) < 1e-9).all()
    assert (found != 0).any()


@pytest.mark.parametrize("noise", ["bernoulli", "gaussian"])
def test_masks_have_their_moments(noise):
    alpha = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    drawn = draw(alpha, noise, (400_000, 3), torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), torch.ones(3, dtype=torch.float64), rtol=0, atol=0.03)
    torch.testing.assert_close(drawn.var(0), (1 - alpha) / alpha, rtol=0.03, atol=0)
    torch.testing.assert_close(
        (drawn.mT @ drawn / len(drawn))[0, 1], torch.ones((), dtype=torch.float64), rtol=0.05, atol=0
    )


@pytest.mark.parametrize("noise", ["bernoulli", "gaussian"])
def test_sgd_under_masks_ends_near_the_penaltys_solution(noise):
    cells, _ = regression(PENALTIES, 0.2)
    start = torch.full((3, 60), 0.5, dtype=torch.float64)
    exact = reweighted(cells, start, 20000, 1e-13).weights
    found = trained_under_masks(cells, start, noise, TRAINING, key="test")
    assert ((found - exact).norm(dim=1) < 0.05 * exact.norm(dim=1)).all()
    again = trained_under_masks(cells, start, noise, TRAINING, key="test", threads=2)
    assert torch.equal(found, again)


def test_data_are_as_described():
    settings = SparseRegression(kind="sparse_regression", samples=50, features=80, nonzeros=7, noise=0.0, seed=3)
    X, y, truth = load(settings, 1)
    torch.testing.assert_close(X.norm(dim=0), torch.ones(80, dtype=torch.float64))
    torch.testing.assert_close(X @ truth, y)
    sizes = truth[truth != 0].abs()
    assert len(sizes) == 7
    assert ((sizes >= 1) & (sizes <= 2)).all()
    assert not torch.equal(load(settings, 2).truth, truth)
    assert torch.equal(load(settings, 1).y, y)
