"""Divergences against their matrix form and Monte Carlo, the best rotation and rates against search."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special
from torch.distributions import MultivariateNormal, kl_divergence

from repro import theory
from repro.theory.householder import check_householder, covariance_diagonal, factors, reflected, rotated_noise

FLOAT = torch.float64
K, Q, T = 4, 3, 2


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT)


def product(vectors):
    """U as a product of K×K matrices."""
    U = torch.eye(vectors.shape[-1], dtype=FLOAT)
    for v in vectors:
        U = (torch.eye(len(v), dtype=FLOAT) - 2 * torch.outer(v, v) / (v @ v)) @ U
    return U


@pytest.fixture
def posterior():
    """Θ, U, α, C and both means."""
    U, rates = product(draw(T, K, seed=1)), draw(K, seed=2).exp()
    C = (U * rates) @ U.mT
    return draw(K, Q, seed=3), U, rates, C


@pytest.mark.parametrize("reflections", [0, 1, 2, 4])
def test_reflections_are_their_product(reflections):
    vectors, values, rates = 7 * draw(reflections, K), draw(5, K, seed=1), draw(K, seed=2).exp()
    U = product(vectors)
    torch.testing.assert_close(reflected(values, vectors), values @ U.mT, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(reflected(values, vectors, transposed=True), values @ U, rtol=1e-12, atol=1e-13)
    diagonal = ((U * rates) @ U.mT).diagonal()
    torch.testing.assert_close(covariance_diagonal(rates, vectors), diagonal, rtol=1e-12, atol=1e-13)
    assert float(torch.linalg.det(U)) == pytest.approx((-1) ** reflections)
    assert int(torch.linalg.matrix_rank(U - torch.eye(K, dtype=FLOAT))) <= reflections
    if reflections > 1:  # the control: their order counts
        assert not torch.allclose(reflected(values, vectors.flip(0)), values @ U.mT, atol=1e-3)


@pytest.mark.parametrize("reflections", [0, 1, 3])
def test_noise_in_columns_is_the_rotation_of_its_scaled_columns(reflections):
    vectors, normal, rates = draw(2, reflections, K), draw(2, K, 6, seed=1), draw(2, K, seed=2).exp()
    for one, noise, alpha, found in zip(vectors, normal, rates, rotated_noise(normal, rates, vectors), strict=True):
        torch.testing.assert_close(found, product(one) @ (alpha.sqrt()[:, None] * noise), rtol=1e-12, atol=1e-13)
    leaves = [part.requires_grad_() for part in (normal, rates, vectors)]
    assert torch.autograd.gradcheck(rotated_noise, leaves)


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_one_reflection_less_than_inputs_reaches_every_rotation_up_to_signs(width):
    for U in [
        *torch.linalg.qr(draw(3, width, width))[0],
        torch.eye(width, dtype=FLOAT),
        -torch.eye(width, dtype=FLOAT),
    ]:
        vectors = factors(U)
        assert vectors.shape == (width - 1, width)
        signs = product(vectors).mT @ U if width > 1 else U
        torch.testing.assert_close(signs.abs(), torch.eye(width, dtype=FLOAT), rtol=0, atol=1e-13)
    both = torch.linalg.qr(draw(3, width, width))[0]
    torch.testing.assert_close(factors(both)[1], factors(both[1]))


def test_reflections_in_batches_and_their_gradient():
    vectors, rates = draw(3, T, K), draw(3, K, seed=1).exp()
    found = covariance_diagonal(rates, vectors)
    for i in range(3):
        torch.testing.assert_close(found[i], covariance_diagonal(rates[i], vectors[i]))
    assert torch.autograd.gradcheck(covariance_diagonal, (rates.requires_grad_(), vectors.requires_grad_()))
    assert torch.autograd.gradcheck(reflected, (draw(3, 2, K, seed=5).requires_grad_(), vectors))


def test_two_equal_reflections_are_none_and_one_along_an_axis_leaves_the_covariance():
    v, rates = draw(1, K), draw(K, seed=1).exp()
    twice = v.expand(2, -1).clone().requires_grad_()
    torch.testing.assert_close(reflected(draw(5, K), twice), draw(5, K))
    # A start at U = I that learns: off the diagonal C has a gradient there, on it none.
    U = reflected(torch.eye(K, dtype=FLOAT), twice).mT
    C = (U * rates) @ U.mT
    off, on = (torch.autograd.grad(C[0, j], twice, retain_graph=True)[0] for j in (1, 0))
    assert off.norm() > 1e-3
    assert on.norm() < 1e-14
    axis = torch.eye(K, dtype=FLOAT)[:1]
    torch.testing.assert_close(covariance_diagonal(rates, axis), rates)


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("prior", [0.7, "each"])
def test_kl_normal_is_that_of_the_matrices(posterior, rotated, prior):
    weights, U, rates, C = posterior
    mean = U.sum(-1) if rotated else torch.ones(K, dtype=FLOAT)
    s = draw(K, Q, seed=9).exp() if prior == "each" else torch.full((K, Q), 0.7, dtype=FLOAT)
    found = theory.kl_normal(weights, mean, C.diagonal(), rates, s if prior == "each" else 0.7)
    expected = sum(
        kl_divergence(
            MultivariateNormal(mean * w, w[:, None] * C * w), MultivariateNormal(torch.zeros(K, dtype=FLOAT), v.diag())
        )
        for w, v in zip(weights.mT, s.mT, strict=True)
    )
    assert float(found) == pytest.approx(float(expected), rel=1e-11)
    # The control: the rates in place of the diagonal of C.
    assert float(theory.kl_normal(weights, mean, rates, rates, s)) != pytest.approx(float(expected), rel=1e-3)


def test_a_zero_weight_makes_the_posterior_singular(posterior):
    weights, _, rates, C = posterior
    weights = weights.clone()
    weights[1, 1] = 0
    assert theory.kl_normal(weights, torch.ones(K, dtype=FLOAT), C.diagonal(), rates, 1.0) == math.inf


def test_empirical_bayes_is_the_least_over_priors(posterior):
    weights, _, rates, C = posterior
    mean, variance = draw(K, seed=5), C.diagonal()
    best = weights.square() * (mean.square() + variance)[:, None]
    found = theory.kl_empirical_bayes(mean, variance, rates, Q)
    assert float(found) == pytest.approx(float(theory.kl_normal(weights, mean, variance, rates, best)), rel=1e-12)
    for factor in (0.9, 1.1):
        assert theory.kl_normal(weights, mean, variance, rates, factor * best) > found
    assert float(theory.kl_empirical_bayes(mean, variance, rates, 2 * Q)) == pytest.approx(2 * float(found))
    # What each rate costs, and the total correlation.
    apart = torch.log1p(mean.square() / variance).sum() / 2
    assert float(found) == pytest.approx(float(Q * (apart + theory.total_correlation(C))), rel=1e-12)
    ones = torch.ones(K, dtype=FLOAT)
    dropout = Q / 2 * torch.log1p(1 / rates).sum()
    assert float(theory.kl_empirical_bayes(ones, rates, rates, Q)) == pytest.approx(float(dropout), rel=1e-12)


def test_one_reflection_can_zero_all_means_but_one():
    """The loophole of the rotated mean: the divergence falls to ½ log(1 + K/a) a column."""
    width, a = 50, 3.0
    v = torch.ones(1, width, dtype=FLOAT)
    v[0, 0] -= width**0.5
    mean = reflected(torch.ones(1, width, dtype=FLOAT), v)[0]
    rates = torch.full((width,), a, dtype=FLOAT)
    assert mean[1:].abs().max() < 1e-12
    found = theory.kl_empirical_bayes(mean, rates, rates, 1)
    assert float(found) == pytest.approx(math.log(1 + width / a) / 2, rel=1e-12)
    assert found < theory.kl_empirical_bayes(torch.ones(width, dtype=FLOAT), rates, rates, 1) / 4


def joint(weights, sigma2, mean, C):
    """q(w_1, …, w_Q, z) of the hierarchical model as one Gaussian: mean and covariance."""
    width = len(weights)
    to_weights = torch.cat([w.diag() for w in weights.mT])  # vec W = A z + noise
    A = torch.cat([to_weights, torch.eye(width, dtype=FLOAT)])
    noise = torch.cat([sigma2.mT.flatten(), torch.zeros(width, dtype=FLOAT)])
    return A @ mean, A @ C @ A.mT + noise.diag()


def test_kl_hierarchical_is_that_of_the_joint_gaussian(posterior):
    weights, U, rates, C = posterior
    mean, sigma2, s, gamma = U.sum(-1), draw(K, Q, seed=6).exp(), draw(K, Q, seed=7).exp(), 1.7
    center, covariance = joint(weights, sigma2, mean, C)
    prior = torch.cat([s.mT.flatten(), torch.full((K,), gamma, dtype=FLOAT)]).diag()
    at = torch.cat([torch.zeros(K * Q, dtype=FLOAT), torch.ones(K, dtype=FLOAT)])
    expected = kl_divergence(MultivariateNormal(center, covariance), MultivariateNormal(at, prior))
    found = theory.kl_hierarchical(weights, sigma2, mean, C.diagonal(), rates, s, gamma)
    assert float(found) == pytest.approx(float(expected), rel=1e-10)
    wrong = theory.kl_hierarchical(weights, sigma2, torch.ones(K, dtype=FLOAT), C.diagonal(), rates, s, gamma)
    assert float(wrong) != pytest.approx(float(expected), rel=1e-3)


def test_kl_normal_by_monte_carlo(posterior):
    weights, U, rates, C = posterior
    mean, count = torch.ones(K, dtype=FLOAT), 200_000
    w = weights[:, 0]
    q = MultivariateNormal(mean * w, w[:, None] * C * w)
    x = mean * w + (draw(count, K, seed=8) * rates.sqrt() @ U.mT) * w
    logs = q.log_prob(x) - MultivariateNormal(torch.zeros(K, dtype=FLOAT), torch.eye(K, dtype=FLOAT)).log_prob(x)
    found = theory.kl_normal(weights[:, :1], mean, C.diagonal(), rates, 1.0)
    assert abs(float(logs.mean() - found)) < 3 * float(logs.std()) / count**0.5


def test_kl_log_uniform_is_the_integral_of_dawsons_function():
    for rate in (0.01, 0.1, 0.5, 1.0, 3.0, 20.0):
        exact = 2 * integrate.quad(special.dawsn, 0, (1 / (2 * rate)) ** 0.5)[0]
        found = float(theory.kl_log_uniform(torch.tensor([rate], dtype=FLOAT), 1))
        assert abs(found - exact) < 0.007 + 1e-4
        # And that is −½ log α + E log|1 + √α ε|, up to the constant at α → ∞, where ½ E log ε² = −(γ + log 2)/2.
        density = lambda e, r=rate: math.exp(-e * e / 2) * math.log(abs(1 + r**0.5 * e)) / (2 * math.pi) ** 0.5  # noqa: E731
        pole = -1 / rate**0.5
        mean = sum(
            integrate.quad(density, *ends, limit=200)[0] for ends in ((-40, pole), (pole, 40)) if ends[0] < ends[1]
        )
        limit = -(np.euler_gamma + math.log(2)) / 2
        assert mean - math.log(rate) / 2 - limit == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_no_rotation_is_better_than_the_best(seed):
    G, rates = draw(K, 6, seed=seed), draw(K, seed=seed + 10).exp()
    G = G @ G.mT
    U, least = theory.best_rotation(G, rates)
    torch.testing.assert_close(U @ U.mT, torch.eye(K, dtype=FLOAT))
    assert float(((U * rates) @ U.mT * G).sum()) == pytest.approx(float(least), rel=1e-12)
    others = torch.linalg.qr(draw(5000, K, K, seed=seed + 20))[0]
    values = (((others * rates) @ others.mT) * G).sum((-2, -1))
    assert values.min() >= least * (1 - 1e-12)
    assert values.min() < 1.5 * least  # the search comes near
    # The largest beside the smallest: the other way round it is the worst.
    eigenvalues = torch.linalg.eigvalsh(G)
    assert float(least) == pytest.approx(float((rates.sort(descending=True).values * eigenvalues).sum()), rel=1e-12)


def test_the_null_case_and_the_case_of_equal_units():
    G, equal = draw(K, 6) @ draw(K, 6).mT, torch.full((K,), 0.7, dtype=FLOAT)
    assert float(theory.best_rotation(G, equal)[1]) == pytest.approx(0.7 * float(G.diagonal().sum()), rel=1e-12)
    rates, ones = draw(K, seed=3).exp(), torch.ones(K, K, dtype=FLOAT)
    least = theory.best_rotation(ones, rates)[1] / (rates * ones.diagonal()).sum()
    assert float(least) == pytest.approx(float(rates.min() / rates.mean()), rel=1e-9)


def test_best_rotation_in_batches():
    G, rates = draw(3, K, 6), draw(2, 1, K, seed=1).exp()
    G = G @ G.mT
    U, least = theory.best_rotation(G, rates)
    assert (U.shape, least.shape) == ((2, 3, K, K), (2, 3))
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(least[i, j], theory.best_rotation(G[j], rates[i, 0])[1])


def test_optimal_rates_minimise_the_noise_s_share():
    G, sigma2 = draw(K).exp(), 0.3

    def share(rates):
        return (rates * G).sum() / (2 * sigma2) + theory.kl_empirical_bayes(torch.ones(K, dtype=FLOAT), rates, rates, Q)

    found = theory.optimal_rates(G, Q, sigma2)
    torch.testing.assert_close(found, (-1 + (1 + 4 * Q * sigma2 / G).sqrt()) / 2, rtol=1e-12, atol=0)
    rates = found.clone().requires_grad_()
    gradient = torch.autograd.grad(share(rates), rates)[0]
    assert (gradient * found).abs().max() < 1e-12
    for factor in (0.9, 1.1):
        assert share(factor * found) > share(found)
    small = theory.optimal_rates(torch.tensor([1e18], dtype=FLOAT), 1, 1.0)
    assert float(small) == pytest.approx(1e-18, rel=1e-12)


def test_total_correlation():
    assert float(theory.total_correlation(draw(K).exp().diag())) == pytest.approx(0, abs=1e-14)
    pair = torch.tensor([[4.0, 2 * 3 * 0.6], [2 * 3 * 0.6, 9.0]], dtype=FLOAT)
    assert float(theory.total_correlation(pair)) == pytest.approx(-math.log(1 - 0.36) / 2, rel=1e-12)


BATCHED = [
    (theory.kl_normal, draw(2, 3, K, Q), *draw(3, 2, 3, K).exp(), draw(2, 3, K, Q).exp()),
    (theory.kl_hierarchical, *draw(2, 2, 3, K, Q).exp(), *draw(3, 2, 3, K).exp(), draw(2, 3, K, Q).exp(), 0.7),
    (theory.kl_empirical_bayes, *draw(3, 2, 3, K).exp(), Q),
    (theory.kl_log_uniform, draw(2, 3, K).exp(), Q),
    (theory.noise_gram, draw(2, 3, Q, K), draw(2, 3, 6, K), draw(2, 3, 6, 5)),
    (theory.optimal_rates, draw(2, 3, K).exp(), Q, 0.3),
    (theory.optimal_rates, draw(2, 3, K).exp(), Q, draw(2, 3).exp()),
    (theory.best_rotation, draw(2, 3, K, 6) @ draw(2, 3, K, 6).mT, draw(2, 3, K).exp()),
    (theory.total_correlation, draw(2, 3, K, 6) @ draw(2, 3, K, 6).mT),
]


@pytest.mark.parametrize(("function", "arguments"), [(f, rest) for f, *rest in BATCHED])
def test_batches_are_one_by_one(function, arguments):
    found = function(*arguments)
    for i in range(2):
        for j in range(3):
            one = function(*(part[i, j] if isinstance(part, torch.Tensor) else part for part in arguments))
            torch.testing.assert_close(
                found[i, j] if isinstance(found, torch.Tensor) else tuple(f[i, j] for f in found), one
            )


ONES = torch.ones(K, dtype=FLOAT)
TWICE = torch.ones(2, K, dtype=FLOAT)
BAD = [
    (
        lambda: theory.kl_normal(draw(2, K + 1, Q), TWICE, TWICE, TWICE, 1.0),
        r"weights .* \(\*batch, 4, Q\), got \(2, 5, 3",
    ),
    (
        lambda: theory.kl_empirical_bayes(TWICE, TWICE, TWICE[:, 1:], Q),
        r"rates must have 4 .* mean .* got shape \(2, 3",
    ),
    (lambda: theory.best_rotation(draw(3, K), ONES), r"gram must have shape .* got \(3, 4\)"),
    (lambda: theory.total_correlation(draw(3, K)), r"covariance must have shape .* got \(3, 4\)"),
    (lambda: theory.kl_normal(draw(K + 1, Q), ONES, ONES, ONES, 1.0), "weights must have shape"),
    (lambda: theory.kl_normal(draw(K, Q), ONES, ONES, -ONES, 1.0), "rates must be positive"),
    (lambda: theory.kl_normal(draw(K, Q), ONES, ONES, ONES, 0.0), "prior must be positive"),
    (lambda: theory.kl_normal(draw(K, Q), ONES, 0 * ONES, ONES, 1.0), "variance must be positive"),
    (lambda: theory.kl_empirical_bayes(ONES, ONES, torch.ones(K + 1, dtype=FLOAT), Q), "rates must have 4 entries"),
    (lambda: theory.kl_empirical_bayes(ONES, ONES, ONES, 0), "columns must be at least 1"),
    (lambda: theory.kl_empirical_bayes(ONES / 0, ONES, ONES, 1), "mean must be finite"),
    (lambda: theory.kl_hierarchical(draw(K, Q), draw(K, Q), ONES, ONES, ONES, 1.0, 1.0), "weight_variance must be pos"),
    (lambda: theory.best_rotation(draw(K, K), ONES), "gram must be symmetric"),
    (lambda: theory.best_rotation(ONES.diag(), torch.ones(3, dtype=FLOAT)), "gram must have shape"),
    (lambda: theory.optimal_rates(0 * ONES, 1, 1.0), "gram_diagonal must be positive"),
    (lambda: theory.total_correlation(torch.ones(K, K, dtype=FLOAT)), "covariance must be positive definite"),
    (lambda: check_householder(torch.ones(K + 1, K), K), "vectors must be at most 4, one for each input, got 5"),
    (lambda: check_householder(torch.zeros(1, K), K), "vectors must not be zero"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
