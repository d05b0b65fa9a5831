"""Deep linear networks in training: against textbook loops and autograd, and the solver against closed forms."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from repro.dropout import Bernoulli
from repro.dropout.layered import LayeredDropout
from repro.theory import (
    collapse_onset,
    critical_retain,
    deep_dropout_regularizer,
    minimum_value,
    rank_one_minimizer,
    shrink_singular_values,
    target_spectrum,
)
from repro.training.sweep import deep_linear, solver
from repro.training.sweep.deep_linear import LayerNoise, initial_weights, root_of, singular_values, solve
from repro.training.sweep.engine import Schedule, initial_factors, train
from repro.training.sweep.noise import Cell, Problem

FLOAT = torch.float64
PLAN = Schedule(40, 0.05, momentum=0.8, masks_per_step=2)
WIDTHS = [(6,), (5, 4), (4, 6, 3), (3, 4, 3, 5)]


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(6, 30, generator=generator, dtype=FLOAT)
    decay = torch.tensor([1, 0.55, 0.4, 0.25, 0.15], dtype=FLOAT)[:, None]
    Y = decay * X[:5] + 0.1 * torch.randn(5, 30, generator=generator, dtype=FLOAT)
    return X / torch.linalg.matrix_norm(X, 2), Y / torch.linalg.matrix_norm(Y, 2)


@pytest.fixture(scope="module")
def problem(data) -> Problem:
    return Problem.from_data(*data)


def grid(widths) -> list[Cell]:
    return [Cell(LayeredDropout(widths, retain), seed) for retain in (0.4, 0.8) for seed in (0, 1)]


def forward(weights, X, masks=None):
    """The network of one cell on X, a mask z/θ for each hidden layer."""
    hidden = weights[0] @ X
    for i, weight in enumerate(weights[1:]):
        hidden = weight @ (hidden if masks is None else masks[i][:, None] * hidden)
    return hidden


def exact(weights, data, retain):
    X, Y = data
    return (Y - forward(weights, X)).square().sum() + deep_dropout_regularizer(weights, X, retain)


def close(found, expected, tolerance):
    return bool((found - expected).norm() <= tolerance * expected.norm())


@pytest.mark.parametrize("widths", WIDTHS)
def test_objective_and_gradient_are_those_of_the_theory(data, problem, widths):
    cells = grid(widths)
    noise, weights = LayerNoise(problem, cells), initial_weights(problem, cells, 1.5)
    objective, gradients = noise.objective(*weights), noise.expected_gradient(*weights)
    for i, cell in enumerate(cells):
        mine = [weight[i].clone().requires_grad_() for weight in weights]
        value = exact(mine, data, cell.masks.retain)
        torch.testing.assert_close(objective[i], value.detach(), rtol=1e-12, atol=0)
        for found, expected in zip(gradients, torch.autograd.grad(value, mine), strict=True):
            assert close(found[i], expected, 1e-12)
        assert abs(exact(mine, data, 0.6) / value - 1) > 1e-3  # control: another rate


CHUNK = 25  # steps whose masks are drawn at once: 40 steps are a draw and a part


@pytest.fixture
def short_chunks(monkeypatch):
    def shorten(widths):
        monkeypatch.setattr(deep_linear, "CHUNK_NUMBERS", CHUNK * sum(width**2 for width in widths))

    return shorten


def replayed(cell: Cell, steps: int, masks_per_step: int):
    """For each step and layer the masks z/θ that the engine draws, (m, d_i)."""
    generator, found = cell.generator("masks"), []
    while len(found) < steps:
        drawn = [
            layer.sample_normalized(CHUNK * masks_per_step, generator, FLOAT).view(CHUNK, masks_per_step, -1)
            for layer in cell.masks.layers
        ]
        found += zip(*drawn, strict=True)
    return found[:steps]


def plain_loop(cell, start, data, plan, *, crossed=True):
    """One network trained as a textbook has it, averaging over all combinations of the layers' masks."""
    X, Y = data
    weights = [weight.clone().requires_grad_() for weight in start]
    rate = (1 - cell.masks.retain) / cell.masks.retain
    peak = plan.learning_rate / (1 + rate / plan.masks_per_step) ** len(cell.masks.widths)
    optimizer = torch.optim.SGD(weights, lr=peak, momentum=plan.momentum)
    for step, masks in enumerate(replayed(cell, plan.steps, plan.masks_per_step)):
        optimizer.param_groups[0]["lr"] = peak * plan.factor(step)
        chosen = list(product(*masks) if crossed else zip(*masks, strict=True))
        losses = [(Y - forward(weights, X, combination)).square().sum() for combination in chosen]
        optimizer.zero_grad()
        (sum(losses) / len(losses)).backward()
        optimizer.step()
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize("masks_per_step", [1, 2])
@pytest.mark.parametrize("widths", WIDTHS)
def test_the_engine_is_the_plain_loop(data, problem, widths, masks_per_step, short_chunks):
    short_chunks(widths)
    cells = grid(widths)
    plan = Schedule(40, 0.02, momentum=0.8, masks_per_step=masks_per_step)
    start = initial_weights(problem, cells, 1.2)
    found = train(problem, cells, start, plan, noise=LayerNoise)
    for i in (1,):  # the loop of all combinations takes its time
        mine = [weight[i] for weight in start]
        expected = plain_loop(cells[i], mine, data, plan)
        for weight, reference, before in zip(found, expected, mine, strict=True):
            assert close(weight[i], reference, 1e-11)
            assert not close(weight[i], before, 1e-2)  # something was learned
        other = plain_loop(Cell(cells[i].masks, 7), mine, data, plan)  # control: another seed's masks
        assert not close(found[0][i], other[0], 1e-3)
        if masks_per_step > 1 and len(widths) > 1:  # control: masks in pairs
            assert not close(found[0][i], plain_loop(cells[i], mine, data, plan, crossed=False)[0], 1e-3)


def test_one_hidden_layer_is_the_engine_of_single_hidden_layers(problem):
    """The same masks, factors and steps through either code."""
    deep = [Cell(LayeredDropout((6,), 0.5), 3)]
    single = [Cell(Bernoulli(6, 0.5), 3)]
    V, U = initial_weights(problem, deep, 1.0)
    for deterministic in (True, False):
        if not deterministic:  # a cell's stream of masks belongs to its distribution: lend it the other's
            deep = [Lent(deep[0].masks, 3)]
        first, second = train(problem, deep, (V, U), PLAN, noise=LayerNoise, deterministic=deterministic)
        expected = train(problem, single, (U, V.mT), PLAN, deterministic=deterministic)
        assert close(second, expected[0], 1e-12)
        assert close(first.mT, expected[1], 1e-12)
    assert initial_factors(problem, single, 1.0)[0].shape == U.shape


class Lent(Cell):
    def generator(self, purpose, device="cpu"):
        return Cell(Bernoulli(6, 0.5), 3).generator(purpose, device)


@pytest.mark.parametrize("widths", WIDTHS)
def test_sampled_deviations_are_passes_through_masked_networks(data, problem, widths):
    X, _ = data
    cells = grid(widths)[1:3]
    weights = initial_weights(problem, cells, 1.5)
    count = 700  # more than go through at a time
    noise = LayerNoise(problem, cells)
    found = noise.sampled_regularizer(weights, [cell.generator("measurement") for cell in cells], count)
    assert found.shape == (2, count)
    for i, cell in enumerate(cells):
        mine, generator = [weight[i] for weight in weights], cell.generator("measurement")
        drawn = [cell.masks.sample_normalized(size, generator, FLOAT) for size in (512, 188)]
        for row, mask in list(enumerate(torch.cat(drawn)))[::97]:
            passed = forward(mine, X, mask.split(widths))
            torch.testing.assert_close(found[i, row], (passed - forward(mine, X)).square().sum(), rtol=1e-10, atol=0)


def test_their_mean_is_the_regulariser(data, problem):
    cells = [Cell(LayeredDropout(widths, 0.6), 0) for widths in [(8, 8)] * 3]
    weights = initial_weights(problem, cells, 1.5)
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    found = LayerNoise(problem, cells).sampled_regularizer(weights, generators, 40_000)
    error = found.std(1) / 200
    expected = deep_dropout_regularizer(weights, root_of(problem.gram), 0.6)
    distance = (found.mean(1) - expected) / error
    assert distance.abs().max() < 4
    assert ((found.mean(1) - 0.9 * expected) / error).abs().min() > 4  # control


def test_the_start(problem):
    cells = [Cell(LayeredDropout((200, 300), retain), seed) for retain, seed in ((0.5, 0), (0.5, 1), (0.9, 0))]
    weights = initial_weights(problem, cells, 0.7)
    assert [tuple(weight.shape) for weight in weights] == [(3, 200, 6), (3, 300, 200), (3, 5, 300)]
    # θ^{L/2} over all L+1 weights
    assert float((weights[1][0] / weights[1][2]).mean()) == pytest.approx((0.5 / 0.9) ** (1 / 3), rel=1e-12)
    assert not close(weights[0][0], weights[0][1], 0.5)
    gain = weights[1][0].norm() ** 2 / 200  # Σ over rows of E|w|², per input
    assert float(gain) == pytest.approx((0.7 * 0.5 ** (1 / 3)) ** 2, rel=0.02)


def test_cells_of_unlike_shape_or_other_masks_are_refused(problem):
    with pytest.raises(ValueError, match="one list of widths"):
        LayerNoise(problem, [Cell(LayeredDropout((4,), 0.5), 0), Cell(LayeredDropout((5,), 0.5), 0)])
    with pytest.raises(ValueError, match="masks on its layers"):
        LayerNoise(problem, [Cell(Bernoulli(4, 0.5), 0)])


@pytest.mark.parametrize("widths", [(7,), (2, 9), (9, 2, 4)])
def test_singular_values(data, problem, widths):
    cells = grid(widths)
    weights = initial_weights(problem, cells, 1.0)
    found = singular_values(weights, root_of(problem.gram))
    assert found.shape == (4, 5)
    for i in range(4):
        expected = torch.linalg.svdvals(forward([weight[i] for weight in weights], data[0]))
        torch.testing.assert_close(found[i], expected, rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------------- the solver


@pytest.fixture(scope="module")
def spectrum(data):
    X, Y = data
    m = target_spectrum(Y, X)
    return m, float(Y.square().sum() - m.square().sum())


@pytest.mark.parametrize("fraction", [0.97, 0.5])
@pytest.mark.parametrize("widths", WIDTHS)
def test_it_reaches_the_rank_one_closed_form(data, spectrum, widths, fraction):
    X, Y = data
    theta = fraction * critical_retain(spectrum[0], widths)
    expected = rank_one_minimizer(Y, X, widths, theta)
    found = solve(*spectrum, widths, theta, seed=0)
    assert abs(found.objective / float(expected.objective) - 1) < 1e-12
    torch.testing.assert_close(found.singular_values, expected.singular_values, rtol=0, atol=1e-7)
    # Control: it is not the closed form of a slightly different rate.
    assert abs(found.objective / float(rank_one_minimizer(Y, X, widths, 0.999 * theta).objective) - 1) > 1e-7


@pytest.mark.parametrize("theta", [0.3, 0.6, 0.9])
def test_one_hidden_layer_reaches_the_closed_form_at_every_rate(spectrum, theta):
    m, residual = spectrum
    penalty = (1 - theta) / theta / 12
    found = solve(m, residual, (12,), theta, seed=0)
    assert found.objective == pytest.approx(residual + float(minimum_value(m, 1, penalty)), rel=1e-10)
    torch.testing.assert_close(found.singular_values, shrink_singular_values(m, 1, penalty), rtol=0, atol=1e-5)
    other = solver.solve(m, residual, Bernoulli(12, theta), seed=0)
    assert found.objective == pytest.approx(other.objective, rel=1e-12)


def test_deeper_networks_stay_above_the_bound_where_the_rank_is_higher(spectrum):
    m, residual = spectrum
    theta = 0.9
    penalty = (1 + (1 - theta) / theta / 12) ** 2 - 1
    found = solve(m, residual, (12, 12), theta, seed=0)
    assert (found.singular_values > 1e-3).sum() > 1
    assert found.objective > (residual + float(minimum_value(m, 1, penalty))) * (1 + 1e-4)
    assert math.isfinite(found.objective)


def test_the_solver_follows_a_minimum_from_one_rate_to_another():
    """Two hidden layers near the rate at which rank 1 takes over: a random start dies there, the branch lives on."""
    target = torch.tensor([1.0, 0.6, 0.35, 0.2], dtype=torch.float64)
    onset = collapse_onset(target, 2).rate
    far = solve(target, 0.0, (4, 4), 1 / (1 + 4 * 0.5 * onset), 0)
    after = solve(target, 0.0, (4, 4), 1 / (1 + 4 * 1.01 * onset), 0, far.point)
    assert after.singular_values[1] > 0.05 * after.singular_values[0]
    rank_one = float(target.square().sum() - target[0] ** 2 / (1 + 1.01 * onset) ** 2)
    assert after.objective > rank_one * (1 + 1e-5)  # a minimum, and no longer the lowest
