"""The closed-form global minimum against a convex program and against descent on the factorised objective."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from repro.theory import (
    GlobalMinimum,
    dropblock_objective,
    global_minimizer,
    k_support_norm,
    minimum_value,
    retain_probability,
    shrink_singular_values,
    spectral_k_support_norm,
    target_spectrum,
)

FLOAT = torch.float64


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def penalised(A: Tensor, Y: Tensor, block_size: int, p: float) -> Tensor:
    penalty = (1 - p) / p * spectral_k_support_norm(A, min(block_size, *A.shape[-2:])).square()
    return (Y - A).square().sum((-2, -1)) + penalty


DATA = {
    "plain": (randn(4, 9), randn(6, 9, seed=1)),
    "rank-deficient X": (randn(4, 9), randn(6, 2, seed=1) @ randn(2, 9, seed=2)),
    "more rows than columns": (randn(7, 5), randn(9, 5, seed=1)),
    "few inputs": (randn(6, 9), randn(2, 9, seed=1)),
    "badly scaled X": (
        randn(4, 9),
        randn(6, 9, seed=1) * torch.logspace(-5, 5, 6, dtype=FLOAT).unsqueeze(-1),
    ),
}


def squared_norm_program(A: cp.Expression, k: int) -> tuple[cp.Expression, list[cp.Constraint]]:
    """‖A‖²_(k) = min tr(Aᵀ T⁻¹ A) over 0 <= T <= I with tr T <= k; the semidefinite Z bounds Aᵀ T⁻¹ A."""
    rows, columns = A.shape
    T, Z = cp.Variable((rows, rows), symmetric=True), cp.Variable((columns, columns), symmetric=True)
    constraints = [cp.bmat([[T, A], [A.T, Z]]) >> 0, np.eye(rows) - T >> 0, cp.trace(T) <= k]
    return cp.trace(Z), constraints


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize(("block_size", "p"), [(1, 0.7), (2, 0.4)])
def test_minimum_is_that_of_the_convex_program(name, block_size, p):
    Y, X = DATA[name]
    rows = np.linalg.svd(X.numpy(), full_matrices=False)[2][: np.linalg.matrix_rank(X.numpy())]  # A = B·rows
    B = cp.Variable((Y.shape[0], rows.shape[0]))
    squared_norm, constraints = squared_norm_program(B, block_size)
    loss = cp.sum_squares(Y.numpy() - B @ rows) + (1 - p) / p * squared_norm
    program = cp.Problem(cp.Minimize(loss), constraints)
    program.solve(solver=cp.CLARABEL)
    found = global_minimizer(Y, X, block_size, p)
    assert found.objective.item() == pytest.approx(program.value, rel=1e-6)
    torch.testing.assert_close(found.prediction, torch.from_numpy(B.value @ rows), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("block_size", [1, 2, 3, 50])
def test_result_is_consistent_and_no_neighbour_is_lower(name, block_size):
    Y, X = DATA[name]
    found = global_minimizer(Y, X, block_size, 0.6)
    A = found.prediction
    weights = torch.linalg.lstsq((X / X.norm(dim=-1, keepdim=True)).mT, A.mT, driver="gelsd").solution
    torch.testing.assert_close((X / X.norm(dim=-1, keepdim=True)).mT @ weights, A.mT, rtol=0, atol=1e-13)
    torch.testing.assert_close(torch.linalg.svdvals(A), found.singular_values, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(penalised(A, Y, block_size, 0.6), found.objective, rtol=1e-13, atol=0)
    for seed in range(20):
        step = randn(Y.shape[0], X.shape[0], seed=seed) @ (X / X.norm(dim=-1, keepdim=True))
        step *= 1e-3 / step.norm()
        assert penalised(A + step, Y, block_size, 0.6) >= found.objective + 0.99 * step.square().sum()


def test_units_of_inputs_and_rounding_noise_do_not_count():
    Y, X = DATA["few inputs"]
    expected = global_minimizer(Y, X, 2, 0.6)
    noise = 1e-17 * randn(1, 9, seed=7)  # what centring leaves of a constant input
    for same in (
        X * torch.tensor([[1e-6], [1e6]], dtype=FLOAT),
        torch.cat([X, noise]),
        torch.cat([X, X.sum(0)[None]]),
    ):
        for found, value in zip(global_minimizer(Y, same, 2, 0.6), expected, strict=True):
            torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-13)
    more = global_minimizer(Y, torch.cat([X, 1e10 * noise]), 2, 0.6)  # small, but an input
    assert more.objective < expected.objective * (1 - 1e-2)


def test_large_block_size_is_ridge():
    Y, X = DATA["plain"]
    ridge = 0.3 * Y @ torch.linalg.pinv(X) @ X  # the squared Frobenius norm: shrinkage by 1/(1+λ) = p
    for block_size in (4, 5, 1000):
        torch.testing.assert_close(global_minimizer(Y, X, block_size, 0.3).prediction, ridge, rtol=0, atol=1e-13)
    assert (global_minimizer(Y, X, 3, 0.3).prediction - ridge).norm() > 0.05


def test_heavy_dropout_collapses_the_rank():
    Y, X = randn(8, 40), randn(10, 40, seed=1)
    ranks = [global_minimizer(Y, X, 1, p).rank.item() for p in (0.99, 0.9, 0.5, 0.1)]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] == 8
    assert ranks[-1] < 8
    assert global_minimizer(torch.zeros_like(Y), X, 1, 0.5).rank == 0


def descend(Y: Tensor, X: Tensor, width: int, block_size: int, p: float, seed: int) -> float:
    """The lowest dropblock_objective that L-BFGS finds, relative to the closed form, minus 1."""
    generator = torch.Generator().manual_seed(seed)
    retain = retain_probability(p, width, block_size)
    closed = global_minimizer(Y, X, block_size, p).objective.item()
    outputs, inputs = Y.shape[0], X.shape[0]
    start = 0.5 * torch.randn((outputs + inputs) * width, generator=generator, dtype=FLOAT)

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        factors = torch.tensor(flat, requires_grad=True)
        U, V = factors.view(-1, width).split([outputs, inputs])
        value = dropblock_objective(U, V, X, Y, block_size, retain) / closed
        value.backward()
        return value.item(), factors.grad.numpy()

    options = {"maxcor": 40, "maxiter": 2000, "ftol": 1e-16, "gtol": 1e-12}
    return minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).fun - 1


def rank_eight_problem() -> tuple[Tensor, Tensor]:
    X = torch.linalg.qr(randn(40, 20, seed=3)).Q.mT
    return randn(20, 8, seed=4) @ randn(8, 20, seed=5) @ X / 8**0.5, X


@pytest.mark.parametrize(("block_size", "wide", "narrow"), [(1, 6, 4), (2, 8, 6), (4, 12, 8)])
def test_descent_reaches_the_closed_form_when_wide_enough_and_not_when_narrow(block_size, wide, narrow):
    Y, X = rank_eight_problem()
    gaps = [descend(Y, X, wide, block_size, 0.8, seed) for seed in range(2)]
    assert min(gaps) > -1e-12
    assert min(gaps) < 1e-10
    assert min(descend(Y, X, narrow, block_size, 0.8, seed) for seed in range(2)) > 1e-3


def test_spectrum_functions_agree_with_the_minimizer():
    Y, X = DATA["rank-deficient X"]
    spectrum, penalty = target_spectrum(Y, X), (1 - 0.6) / 0.6
    found = global_minimizer(Y, X, 2, 0.6)
    assert spectrum.shape == found.singular_values.shape == (4,)
    projected = Y @ torch.linalg.pinv(X) @ X
    torch.testing.assert_close(torch.linalg.svdvals(projected), spectrum, rtol=0, atol=1e-13)
    shrunk = shrink_singular_values(spectrum, 2, penalty)
    torch.testing.assert_close(shrunk, found.singular_values, rtol=1e-13, atol=1e-14)
    value = minimum_value(spectrum, 2, penalty)
    expected = (spectrum - shrunk).square().sum() + penalty * k_support_norm(shrunk, 2) ** 2
    torch.testing.assert_close(value, expected, rtol=1e-15, atol=0)
    unreachable = (Y - projected).square().sum()
    torch.testing.assert_close(value + unreachable, found.objective, rtol=1e-13, atol=0)
    widest = shrink_singular_values(spectrum, 4, penalty)
    assert torch.equal(shrink_singular_values(spectrum, 99, penalty), widest)


def test_batched_is_looped():
    Y, X = randn(3, 4, 9), randn(3, 6, 9, seed=1)
    X[1] = X[1, :2].repeat(3, 1)  # ranks differ within the batch
    p = torch.tensor([0.2, 0.5, 0.9], dtype=FLOAT)
    found = global_minimizer(Y, X, 2, p)
    assert found.rank.shape == found.objective.shape == (3,)
    for i in range(3):
        for batched, looped in zip(found, global_minimizer(Y[i], X[i], 2, p[i].item()), strict=True):
            torch.testing.assert_close(batched[i], looped, rtol=1e-11, atol=1e-12)
    many_p = global_minimizer(Y[0], X[0], 2, p)  # one problem, three rates
    torch.testing.assert_close(many_p.prediction[0], found.prediction[0], rtol=1e-11, atol=1e-12)
    assert many_p.objective.shape == (3,)


def test_float32_stays_and_the_objective_has_a_gradient():
    Y, X = DATA["plain"]
    exact, found = global_minimizer(Y, X, 2, 0.5), global_minimizer(Y.float(), X.float(), 2, 0.5)
    for single, double in zip(found, exact, strict=True):
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)
    Y = Y.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: global_minimizer(y, X, 2, 0.5).objective, Y)


Y, X = DATA["plain"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: global_minimizer(Y, X[:, :8], 2, 0.5), r"Y must have 8 entries .* match X .*\(4, 9\)"),
        (lambda: global_minimizer(Y, X[0], 2, 0.5), r"X must have shape \(\*batch, rows, columns\).*\(9,\)"),
        (lambda: global_minimizer(Y, X[:0], 2, 0.5), r"X must have shape .*neither of them 0.*\(0, 9\)"),
        (lambda: global_minimizer(Y / 0, X, 2, 0.5), r"Y must be finite, got 36 NaN or infinite of 36"),
        (lambda: global_minimizer(Y, X.float(), 2, 0.5), r"X must have the dtype of Y, torch\.float64"),
        (lambda: global_minimizer(Y, X, 0, 0.5), r"block_size must be at least 1, got 0"),
        (lambda: global_minimizer(Y, X, 2, 1), r"p must be in \(0, 1\), ends excluded, got 1"),
        (lambda: global_minimizer(Y, X, 2, 0.0), r"p must be in \(0, 1\), ends excluded, got 0\.0"),
        (lambda: global_minimizer(Y, X, 2, -0.1), r"p must be in \(0, 1\), ends excluded, got -0\.1"),
        (
            lambda: global_minimizer(Y.expand(2, -1, -1), X, 2, torch.full((3,), 0.5)),
            r"batch dimensions must broadcast .*p \(3,\), Y \(2,\)",
        ),
        (
            lambda: global_minimizer(Y.expand(2, -1, -1), X.expand(3, -1, -1), 2, 0.5),
            r"batch dimensions must broadcast .*Y \(2,\), X \(3,\)",
        ),
        (
            lambda: global_minimizer(Y, X.expand(2, -1, -1), 2, torch.full((3,), 0.5)),
            r"batch dimensions must broadcast .*p \(3,\), Y \(\), X \(2,\)",
        ),
        (lambda: target_spectrum(Y, X[:, :8]), r"Y must have 8 entries"),
        (lambda: shrink_singular_values(torch.ones(3), -2, 0.5), r"block_size must be at least 1, got -2"),
        (lambda: shrink_singular_values(torch.ones(3), 2, -0.5), r"penalty must be in \[0, inf\), got -0\.5"),
        (lambda: shrink_singular_values(torch.ones(0), 2, 0.5), r"singular_values must have shape"),
        (lambda: minimum_value(torch.ones(3), 2, -0.5), r"penalty must be in \[0, inf\), got -0\.5"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees():
    on_cuda = global_minimizer(Y.cuda(), X.cuda(), 2, 0.5)
    for found, expected in zip(on_cuda, global_minimizer(Y, X, 2, 0.5), strict=True):
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-11, atol=1e-12)


def test_a_block_size_beyond_the_spectrum_acts_as_its_length_in_a_batch_too():
    spectra = torch.tensor([[5.0, 3.0, 1.0, 0.5], [4.0, 4.0, 2.0, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(shrink_singular_values(spectra, 9, 0.5), spectra / 1.5)
    torch.testing.assert_close(minimum_value(spectra, 9, 0.5), spectra.square().sum(-1) / 3)


@pytest.mark.parametrize("unit", [1e-8, 1e8])
def test_units_of_the_data_change_neither_rank_nor_prediction(unit):
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(3, 9, generator=generator, dtype=torch.float64)
    X = torch.cat([X, X[:1] + X[1:2]])  # rank 3
    Y = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    expected = global_minimizer(Y, X, 2, 0.9)
    torch.testing.assert_close(global_minimizer(Y, unit * X, 2, 0.9).prediction, expected.prediction)
    found = global_minimizer(unit * Y, X, 2, 0.9)
    assert found.rank == expected.rank == 3
    torch.testing.assert_close(found.prediction / unit, expected.prediction)


def test_an_infinite_penalty_is_refused():
    with pytest.raises(ValueError, match=r"penalty must be in \[0, inf\), got inf"):
        shrink_singular_values(torch.ones(3, dtype=torch.float64), 1, float("inf"))


def test_a_batch_of_one_has_a_whole_spectrum():
    torch.testing.assert_close(target_spectrum(Y[None], X[None]), target_spectrum(Y, X)[None])
    assert target_spectrum(Y, X).shape == (4,)


def test_inputs_that_are_zero_teach_nothing():
    found = global_minimizer(Y, torch.zeros_like(X), 2, 0.5)
    assert found.rank == 0
    assert not found.prediction.any()
    torch.testing.assert_close(found.objective, Y.square().sum())


def test_what_counts_as_zero_depends_on_the_size_of_the_matrix_not_of_the_batch():
    """A second direction 1e-14 as long as the first: rounding in X of 2,000 rows, not in X of 4 rows, in any batch."""
    first, second = torch.eye(3, dtype=torch.float64)[:2]
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(1000)[:, None]
    long = first + 1e-14 * signs * second
    targets = torch.stack([first, second])
    assert global_minimizer(targets, long, 2, 0.5).rank == 1
    assert global_minimizer(targets, long[:4], 2, 0.5).rank == 2
    batch = global_minimizer(targets, long[:4].expand(1000, -1, -1), 2, 0.5)
    assert (batch.rank == 2).all()

    def rank(*shape):
        spectrum = torch.tensor([1.0, 1e-14], dtype=torch.float64).expand(*shape[:-2], 2)
        return GlobalMinimum(torch.zeros(shape, dtype=torch.float64), spectrum, spectrum[..., 0]).rank

    assert rank(1000, 2) == rank(2, 1000) == 1
    assert rank(2, 2) == 2
    assert (rank(1000, 2, 2) == 2).all()
