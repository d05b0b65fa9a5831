"""The k-support norm and the prox of its square, against solvers, search, exact arithmetic and ModOpt."""

import warnings
from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from repro.theory import k_support_norm, prox_squared_k_support, spectral_k_support_norm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from modopt.opt.proximity import KSupportNorm

FLOAT = torch.float64


def vector(n: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(n))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def recorded_prox(values: Tensor, k: int, weight: float) -> Tensor:
    """The tensor road of the map, which one vector without a gradient does not take."""
    return prox_squared_k_support(values.unsqueeze(0), k, weight).squeeze(0)


def exact_squared_norm(values: list[Fraction], k: int) -> Fraction:
    """The defining formula, by search over ρ, in exact arithmetic."""
    s = sorted((abs(v) for v in values), reverse=True)
    for rho in range(1, k + 1):
        share = sum(s[rho - 1 :]) / (k - rho + 1)
        if (rho == 1 or s[rho - 2] > share) and share >= s[rho - 1]:
            return sum((v * v for v in s[: rho - 1]), Fraction(0)) + share * share * (k - rho + 1)
    raise AssertionError("the index rho exists")


def exact_prox(values: list[Fraction], k: int, weight: Fraction) -> list[Fraction]:
    """The best candidate of all pairs (ρ, τ), in exact arithmetic; values positive and decreasing."""
    n, best = len(values), None
    for rho in range(1, k + 1):
        for tau in range(rho, n + 1):
            q, middle = k - rho + 1, values[rho - 1 : tau]
            u = sum(middle) / (q + weight * len(middle))
            a = [v / (1 + weight) for v in values[: rho - 1]] + [v - weight * u for v in middle]
            a += [Fraction(0)] * (n - tau)
            if min(a) < 0:
                continue
            loss = sum((v - b) ** 2 for v, b in zip(values, a, strict=True)) + weight * exact_squared_norm(a, k)
            if best is None or loss < best[0]:
                best = (loss, a)
    assert best is not None
    return best[1]


def cvxpy_prox(values: np.ndarray, k: int, weight: float) -> tuple[np.ndarray, float]:
    a, t = cp.Variable(len(values)), cp.Variable(len(values))
    penalty = sum(cp.quad_over_lin(a[i], t[i]) for i in range(len(values)))
    problem = cp.Problem(cp.Minimize(cp.sum_squares(values - a) + weight * penalty), [t <= 1, cp.sum(t) <= k])
    problem.solve(solver=cp.CLARABEL)
    return np.asarray(a.value), float(problem.value)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 2), (9, 1), (9, 4), (9, 8), (9, 9)])
def test_norm_is_exact(n, k):
    values = vector(n, seed=n + k)
    expected = float(exact_squared_norm([Fraction(v) for v in values.tolist()], k)) ** 0.5
    assert k_support_norm(values, k).item() == pytest.approx(expected, rel=1e-15)


def test_norm_is_the_variational_program():
    values, k = vector(7).numpy(), 3
    t = cp.Variable(7)
    program = cp.Problem(
        cp.Minimize(sum(cp.quad_over_lin(v, t[i]) for i, v in enumerate(values))), [t <= 1, cp.sum(t) <= k]
    )
    program.solve(solver=cp.CLARABEL)
    found = k_support_norm(torch.from_numpy(values), k).item()
    assert found**2 == pytest.approx(program.value, rel=1e-6)
    assert found != pytest.approx(program.value, rel=0.1)  # the norm, not its square


def test_norm_ends_are_l1_and_l2():
    values = vector(50)
    torch.testing.assert_close(k_support_norm(values, 1), values.abs().sum(), rtol=1e-15, atol=0)
    torch.testing.assert_close(k_support_norm(values, 50), values.norm(), rtol=1e-15, atol=0)


def test_spectral_norm_ends_are_nuclear_and_frobenius():
    matrix = vector(3 * 6 * 4).reshape(3, 6, 4)
    nuclear = torch.linalg.matrix_norm(matrix, "nuc")
    torch.testing.assert_close(spectral_k_support_norm(matrix, 1), nuclear, rtol=1e-14, atol=0)
    frobenius = torch.linalg.matrix_norm(matrix)
    torch.testing.assert_close(spectral_k_support_norm(matrix, 4), frobenius, rtol=1e-14, atol=0)
    between = spectral_k_support_norm(matrix, 2)
    assert ((between < nuclear) & (between > frobenius)).all()


entries = st.one_of(st.floats(-10, 10), st.sampled_from([0.0, 1.0, -1.0, 2.0]))


@st.composite
def vectors_and_k(draw):
    n = draw(st.integers(1, 12))
    draws = [draw(st.lists(entries, min_size=n, max_size=n)) for _ in range(2)]
    return *(torch.tensor(x, dtype=FLOAT) for x in draws), draw(st.integers(1, n))


@settings(max_examples=150, deadline=None)
@given(vectors_and_k(), st.floats(-5, 5))
def test_norm_is_a_norm(drawn, scale):
    x, y, k = drawn
    norm = k_support_norm(x, k)
    torch.testing.assert_close(k_support_norm(scale * x, k), abs(scale) * norm, rtol=1e-13, atol=1e-300)
    assert k_support_norm(x + y, k) <= (norm + k_support_norm(y, k)) * (1 + 1e-14)
    assert (norm == 0) == bool((x == 0).all())
    if k < len(x):  # decreases from l1 to l2
        assert k_support_norm(x, k + 1) <= norm * (1 + 1e-14)


@settings(max_examples=150, deadline=None)
@given(vectors_and_k(), st.floats(0.01, 50), st.booleans())
def test_prox_is_firmly_nonexpansive_and_optimal(drawn, weight, recorded):
    x, y, k = drawn
    prox = recorded_prox if recorded else prox_squared_k_support
    a, b = prox(x, k, weight), prox(y, k, weight)
    assert ((a - b) ** 2).sum() <= ((a - b) * (x - y)).sum() + 1e-12 * (1 + (x - y).square().sum())
    # signs and order
    assert (a * x >= 0).all()
    assert (a.abs() <= x.abs() + 1e-15).all()
    assert (a.abs()[x.abs().argsort()].diff() >= 0).all()
    # Convexity, with the loss and its growth around the minimum: no other point does better.
    step = 1e-3 * y

    def loss(z: Tensor) -> Tensor:
        return (x - z).square().sum() + weight * k_support_norm(z, k).square()

    assert loss(a + step) >= loss(a) + step.square().sum() * (1 - 1e-6) - 1e-12 * (1 + loss(a))


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("weight", [0.01, 0.25, 1.0, 9.0, 99.0])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (6, 3), (8, 1), (8, 5), (8, 8)])
def test_prox_is_exact(n, k, weight, recorded):
    values = vector(n, seed=3 * n + k).exp().sort(descending=True).values
    oracle = exact_prox([Fraction(v) for v in values.tolist()], k, Fraction(weight))
    expected = torch.tensor([float(v) for v in oracle], dtype=FLOAT)
    found = (recorded_prox if recorded else prox_squared_k_support)(values, k, weight)
    assert relative(found, expected) < 1e-15 * (1 + weight)
    assert ((found == 0) == (expected == 0)).all()


@pytest.mark.parametrize(("k", "weight"), [(1, 0.3), (3, 0.1), (3, 4.0), (6, 1.0)])
def test_prox_is_the_convex_program(k, weight):
    values = vector(6, seed=4)
    minimiser, minimum = cvxpy_prox(values.numpy(), k, weight)
    expected, found = torch.from_numpy(minimiser), prox_squared_k_support(values, k, weight)
    value = (values - found).square().sum() + weight * k_support_norm(found, k).square()
    assert value.item() == pytest.approx(minimum, rel=1e-8)
    assert relative(found, expected) < 1e-3  # a solver finds the minimum better than the minimiser
    # ‖·‖²_(k) weighted by weight/2 is another map.
    assert relative(prox_squared_k_support(values, k, weight / 2), expected) > 1e-2


@pytest.mark.parametrize("n", [1, 2, 10, 100, 1000, 20_000])
@pytest.mark.parametrize("weight", [0.01, 0.5, 3.0, 100.0])
def test_prox_is_modopts(n, weight):
    values = vector(n, seed=n)
    for k in {1, max(1, n // 10), max(1, n // 2), n}:
        expected = torch.from_numpy(KSupportNorm(weight, k).op(values.numpy()))
        for prox in (prox_squared_k_support, recorded_prox):
            assert relative(prox(values, k, weight), expected) < 1e-13


@pytest.mark.parametrize("prox", [prox_squared_k_support, recorded_prox])
class TestProxCorners:
    def test_weight_zero_is_the_identity(self, prox):
        assert torch.equal(prox(vector(9), 3, 0.0), vector(9))
        assert torch.equal(prox_squared_k_support(vector(9), 3, torch.zeros(())), vector(9))

    def test_zeros_stay_zero(self, prox):
        assert torch.equal(prox(torch.zeros(5, dtype=FLOAT), 2, 1.0), torch.zeros(5, dtype=FLOAT))
        values = torch.tensor([0.0, 3.0, 0.0, -1.0], dtype=FLOAT)
        for k in (2, 3, 4):  # no more entries than k: the l2 map
            torch.testing.assert_close(prox(values, k, 0.5), values / 1.5, rtol=1e-15, atol=0)

    def test_ties_share(self, prox):
        values = torch.tensor([2.0, -2.0, 2.0, 2.0], dtype=FLOAT)
        for k in (1, 2, 3, 4):
            expected = values * (k / 4) / (k / 4 + 0.7)  # t_i = k/4
            torch.testing.assert_close(prox(values, k, 0.7), expected, rtol=1e-14, atol=0)

    @pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
    def test_scales(self, prox, scale):
        values = vector(30)
        expected = scale * prox(values, 4, 0.8)
        assert float(((prox(scale * values, 4, 0.8) - expected) / scale).norm()) < 1e-13
        torch.testing.assert_close(
            k_support_norm(scale * values, 4), scale * k_support_norm(values, 4), rtol=1e-14, atol=0
        )

    def test_wide_range_of_magnitudes(self, prox):
        values = torch.tensor([1e8, 3.0, 2.0, 1.0, 1e-9], dtype=FLOAT)
        oracle = exact_prox([Fraction(v) for v in values.tolist()], 2, Fraction(1, 2))
        expected = torch.tensor([float(v) for v in oracle], dtype=FLOAT)
        torch.testing.assert_close(prox(values, 2, 0.5), expected, rtol=1e-14, atol=0)

    def test_float32_stays(self, prox):
        found = prox(vector(1000).float(), 10, 0.5)
        assert found.dtype == torch.float32
        assert relative(found.double(), prox(vector(1000), 10, 0.5)) < 1e-6
        assert prox_squared_k_support(vector(5).float(), 2, torch.ones((), dtype=FLOAT)).dtype == torch.float32

    def test_input_is_left_alone_and_any_stride_will_do(self, prox):
        values = vector(12)
        before = values.clone()
        prox(values, 3, 0.0).add_(1)
        assert torch.equal(values, before)
        strided = vector(24)[::2]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(prox(strided, 3, 0.4), prox(strided.contiguous(), 3, 0.4))


def test_million_entries():
    values = vector(1_000_000)
    found = prox_squared_k_support(values, 5000, 0.7)
    assert relative(recorded_prox(values, 5000, 0.7), found) < 1e-13
    assert 0 < int((found != 0).sum()) < 1_000_000


def test_batched_is_looped():
    values = vector(4 * 3 * 10).reshape(3, 4, 10).transpose(0, 1)
    weights = torch.tensor([[0.2], [1.0], [0.0], [30.0]], dtype=FLOAT)  # one for each of 4, broadcast over 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prox = prox_squared_k_support(values, 4, weights)
        norms = k_support_norm(values, 4)
    for i in range(4):
        for j in range(3):
            looped = prox_squared_k_support(values[i, j].contiguous(), 4, weights[i].item())
            torch.testing.assert_close(prox[i, j], looped, rtol=1e-14, atol=1e-15)
            torch.testing.assert_close(norms[i, j], k_support_norm(values[i, j], 4), rtol=1e-14, atol=0)
    one_vector = prox_squared_k_support(values[0, 0], 4, weights.squeeze(-1))
    assert one_vector.shape == (4, 10)
    assert prox_squared_k_support(torch.zeros(0, 5), 2, 1.0).shape == (0, 5)
    assert k_support_norm(torch.zeros(0, 5), 2).shape == (0,)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_gradients(k):
    values = vector(2 * 8).reshape(2, 8).requires_grad_()
    weight = torch.tensor([0.3, 1.7], dtype=FLOAT, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: k_support_norm(x, k), values)
    assert torch.autograd.gradgradcheck(lambda x: k_support_norm(x, k), values)
    assert torch.autograd.gradcheck(lambda x, w: prox_squared_k_support(x, k, w), (values, weight))
    assert torch.autograd.gradcheck(lambda x: prox_squared_k_support(x, k, 0.4), values[0].detach().requires_grad_())
    matrix = vector(40).reshape(5, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: spectral_k_support_norm(x, min(k, 5)), matrix)


def test_an_empty_batch_has_no_norms():
    assert spectral_k_support_norm(torch.zeros(0, 3, 2), 1).shape == (0,)


def test_norm_has_a_subgradient_at_zero():
    values = torch.zeros(4, dtype=FLOAT, requires_grad=True)
    k_support_norm(values, 2).backward()
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: k_support_norm(vector(4), 0), r"k must be in 1\.\.4, got 0"),
        (lambda: k_support_norm(vector(4), 5), r"k must be in 1\.\.4, got 5"),
        (
            lambda: k_support_norm(torch.zeros(0), 1),
            r"values must have shape \(\*batch, n\) with n >= 1, got \(0,\)",
        ),
        (
            lambda: k_support_norm(vector(4) / 0, 1),
            r"values must be finite, got 4 NaN or infinite of 4 entries",
        ),
        (lambda: spectral_k_support_norm(vector(6).reshape(2, 3), 3), r"k must be in 1\.\.2, got 3"),
        (lambda: spectral_k_support_norm(vector(6).reshape(3, 2), 3), r"k must be in 1\.\.2, got 3"),
        (lambda: spectral_k_support_norm(vector(6), 1), r"matrix must have shape \(\*batch, rows, columns\)"),
        (lambda: prox_squared_k_support(vector(4), 7, 1.0), r"k must be in 1\.\.4, got 7"),
        (lambda: prox_squared_k_support(torch.tensor(2.0), 1, 1.0), r"values must have shape .* n >= 1, got \(\)"),
        (
            lambda: prox_squared_k_support(vector(4), 2, torch.tensor(-0.5)),
            r"weight must be in \[0, inf\), got -0\.5$",
        ),
        (lambda: prox_squared_k_support(vector(4), 2, -0.5), r"weight must be in \[0, inf\), got -0\.5"),
        (lambda: prox_squared_k_support(vector(4), 2, -1), r"weight must be in \[0, inf\), got -1"),
        (
            lambda: prox_squared_k_support(vector(4), 2, float("nan")),
            r"weight must be in \[0, inf\), got nan",
        ),
        (
            lambda: prox_squared_k_support(vector(4), 2, torch.tensor([1.0, -2.0])),
            r"weight must be in \[0, inf\), got values from -2\.0 to 1\.0",
        ),
        (
            lambda: prox_squared_k_support(torch.ones(3, 4), 2, torch.ones(2)),
            r"batch dimensions must broadcast .*, got values \(3,\), weight \(2,\)",
        ),
        (
            lambda: prox_squared_k_support(torch.tensor([1.0, float("nan"), float("-inf")]), 2, 1.0),
            r"values must be finite, got 2 NaN or infinite of 3 entries",
        ),
        (lambda: prox_squared_k_support(torch.ones(3).half(), 2, 1.0), r"values must be float32 or float64"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees():
    values = vector(600).reshape(6, 100)
    cuda = values.cuda()
    assert relative(prox_squared_k_support(cuda, 7, 0.6).cpu(), prox_squared_k_support(values, 7, 0.6)) < 1e-13
    assert relative(prox_squared_k_support(cuda[0], 7, 0.6).cpu(), prox_squared_k_support(values[0], 7, 0.6)) < 1e-13
    assert relative(k_support_norm(cuda, 7).cpu(), k_support_norm(values, 7)) < 1e-13
