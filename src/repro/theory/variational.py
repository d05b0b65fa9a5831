"""Gaussian variational posteriors of structured noise: W = diag(z)Θ, E z = m, Cov z = C = U diag(α) Uᵀ.

Shapes throughout: weights Θ (*batch, K, Q), K inputs and Q columns; mean m, variance diag C and rates α (*batch, K);
the batch dimensions broadcast. A column has the posterior N(m∘θ_j, D_j C D_j), D_j = diag(θ_j), the columns
independent of each other (in the hierarchical model, given z). All functions are differentiable. Every one raises a
ValueError for shapes that do not match, input that is not finite, and rates or variances that are not positive.

The formulas are derived from the model: Nguyen et al. (NeurIPS 2021) state the model, and no text of it was at hand.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from repro.theory.arrays import takes_arrays
from repro.theory.checks import (
    Number,
    check_batches,
    check_finite,
    check_matrices,
    check_size,
    check_vectors,
    looks,
    per_matrix,
)

Several = Float[Tensor, "..."]

# Molchanov, Ashukha and Vetrov (2017), Variational Dropout Sparsifies Deep Neural Networks, equation 14.
_SIGMOID = (0.63576, 1.87320, 1.48695)


@takes_arrays
def kl_normal(weights: Several, mean: Several, variance: Several, rates: Several, prior: Number) -> Several:
    """KL(q ‖ Π_ij N(0, s_ij)) of independent columns.

    ½ Σ_ij [θ_ij²(m_i² + C_ii)/s_ij − 1 + log s_ij − log θ_ij²] − (Q/2) Σ_i log α_i: of C only the diagonal and the
    determinant enter. Infinite where a weight is 0, since the posterior is then singular.

    Args:
        weights: Θ.
        mean: m.
        variance: diag C.
        rates: α.
        prior: s, a number or a tensor that broadcasts against Θ.

    Returns:
        (*batch).
    """
    _check(mean=mean, variance=variance, rates=rates)
    _check_weights(weights, mean)
    check_matrices(weights=weights)
    prior = _variance("prior", prior, weights)
    second = (mean.square() + variance)[..., None]
    terms = weights.square() * second / prior - 1 + torch.log(prior) - torch.log(weights.square())
    return terms.sum((-2, -1)) / 2 - weights.shape[-1] / 2 * rates.log().sum(-1)


@takes_arrays
def kl_empirical_bayes(mean: Several, variance: Several, rates: Several, columns: int) -> Several:
    """The least of `kl_normal` over the prior's variances, (Q/2) Σ_i [log(m_i² + C_ii) − log α_i], free of Θ.

    Reached at s_ij = θ_ij²(m_i² + C_ii). For U = I and m = 1 it is Variational Dropout's (Q/2) Σ_i log(1 + 1/α_i).

    Args:
        mean: m.
        variance: diag C.
        rates: α.
        columns: Q.

    Returns:
        (*batch).
    """
    _check(mean=mean, variance=variance, rates=rates)
    _check_columns(columns)
    return columns / 2 * (torch.log(mean.square() + variance) - rates.log()).sum(-1)


@takes_arrays
def kl_hierarchical(
    weights: Several,
    weight_variance: Several,
    mean: Several,
    variance: Several,
    rates: Several,
    prior: Number,
    noise_prior: Number,
) -> Several:
    """KL(q(W, z) ‖ p(W) p(z)) for q(W|z) = Π N(z_i θ_ij, σ_ij²), p(W) = Π N(0, s_ij), p(z) = N(1, γI), z shared.

    ½ Σ_ij [(σ_ij² + θ_ij²(m_i² + C_ii))/s_ij − 1 − log(σ_ij²/s_ij)]
    + ½ [Σ_i α_i/γ + ‖m − 1‖²/γ − K + K log γ − Σ_i log α_i].
    Finite although all columns share z, because σ gives the posterior full rank.

    Args:
        weights: Θ.
        weight_variance: σ², of the shape of Θ.
        mean: m.
        variance: diag C.
        rates: α.
        prior: s, a number or a tensor that broadcasts against Θ.
        noise_prior: γ, a number or one for each batch entry.

    Returns:
        (*batch).
    """
    _check(mean=mean, variance=variance, rates=rates)
    _check_weights(weights, mean)
    check_matrices(weights=weights, weight_variance=weight_variance)
    weight_variance = _variance("weight_variance", weight_variance, weights)
    prior, gamma = _variance("prior", prior, weights), _variance("noise_prior", noise_prior, weights)
    second = weights.square() * (mean.square() + variance)[..., None]
    of_weights = (weight_variance + second) / prior - 1 - torch.log(weight_variance / prior)
    apart = rates.sum(-1) + (mean - 1).square().sum(-1)
    width = rates.shape[-1]
    of_noise = apart / gamma - width + width * torch.log(gamma) - rates.log().sum(-1)
    return (of_weights.sum((-2, -1)) + of_noise) / 2


@takes_arrays
def kl_log_uniform(rates: Several, columns: int) -> Several:
    """Variational Dropout's KL to the improper prior 1/|w|, up to a constant: Q Σ_i of the usual fit in log α_i.

    The constant is that of KL → 0 as α → ∞. Exact is KL(u) = 2∫₀^√u Dawson(s) ds with u = 1/(2α), from which the fit
    departs by less than 0.007. Molchanov, Ashukha, Vetrov (2017).

    Returns:
        (*batch).
    """
    _check(rates=rates)
    _check_columns(columns)
    k1, k2, k3 = _SIGMOID
    fit = k1 * torch.sigmoid(-(k2 + k3 * rates.log())) + torch.log1p(1 / rates) / 2
    return columns * fit.sum(-1)


@takes_arrays
def best_rotation(gram: Several, rates: Several) -> tuple[Several, Several]:
    """The orthogonal U that minimises ⟨U diag(α) Uᵀ, G⟩, and the minimum Σ_k α_k↓ λ_k(G)↑.

    Its columns are eigenvectors of G, that of the smallest eigenvalue beside the largest rate: von Neumann's trace
    inequality. Where rates or eigenvalues are equal, U is one of several.

    Args:
        gram: G, symmetric and positive semi-definite, (*batch, K, K).
        rates: α.

    Returns:
        U (*batch, K, K), whose column k belongs to α_k, and the minimum, (*batch).
    """
    _check(rates=rates)
    check_matrices(gram=gram)
    if gram.shape[-2] != gram.shape[-1] or gram.shape[-1] != rates.shape[-1]:
        raise ValueError(f"gram must have shape (*batch, K, K) for K = {rates.shape[-1]}, got {tuple(gram.shape)}")
    if not torch.allclose(gram, gram.mT, rtol=1e-6, atol=1e-9 * float(gram.detach().abs().max())):
        raise ValueError("gram must be symmetric")
    values, vectors = torch.linalg.eigh(gram)
    order = rates.argsort(-1, descending=True).argsort(-1)  # the place of each rate, the largest first
    batch = torch.broadcast_shapes(order.shape[:-1], values.shape[:-1])
    order = order.expand(*batch, -1)
    chosen = vectors.expand(*batch, -1, -1).gather(-1, order[..., None, :].expand(*batch, *vectors.shape[-2:]))
    return chosen, (rates * values.expand(*batch, -1).gather(-1, order)).sum(-1)


@takes_arrays
def noise_gram(U: Several, V: Several, X: Several) -> Several:
    """G = (UᵀU)∘(VᵀXXᵀV), positive semi-definite: E‖Y − U diag(z) VᵀX‖² is ‖Y − U diag(m) VᵀX‖² + ⟨C, G⟩.

    Shapes as in `expected_objective`: U (*batch, outputs, K), V (*batch, inputs, K), X (*batch, inputs, samples).

    Returns:
        (*batch, K, K).
    """
    check_matrices(U=U, V=V, X=X)
    check_size("V", V, -1, "U", U, -1)
    check_size("X", X, -2, "V", V, -2)
    hidden = V.mT @ X
    return (U.mT @ U) * (hidden @ hidden.mT)


@takes_arrays
def optimal_rates(gram_diagonal: Several, columns: int, noise_variance: Number) -> Several:
    """The rates of a linear network at U = I: α_i = (−1 + √(1 + 4Qσ²/G_ii))/2.

    They minimise (1/2σ²) Σ_i α_i G_ii + (Q/2) Σ_i log(1 + 1/α_i), the noise's share of the negative ELBO with
    `kl_empirical_bayes` and m = 1.

    Args:
        gram_diagonal: diag G, (*batch, K), positive.
        columns: Q.
        noise_variance: σ², a number or one for each batch entry.
    """
    check_vectors("gram_diagonal", gram_diagonal)
    _check_positive("gram_diagonal", gram_diagonal)
    _check_columns(columns)
    variance = _variance("noise_variance", noise_variance, gram_diagonal)
    ratio = columns * (variance[..., None] if variance.ndim else variance) / gram_diagonal
    return 2 * ratio / (1 + torch.sqrt(1 + 4 * ratio))  # the same number, without its cancellation


@takes_arrays
def total_correlation(covariance: Several) -> Several:
    """−½ log det corr(C) in nats, (*batch): what the entries of z tell of each other; 0 where they are independent.

    `kl_empirical_bayes` is Q[½ Σ_i log(1 + m_i²/C_ii) + total_correlation(C)].

    Args:
        covariance: C, positive definite, (*batch, K, K).
    """
    check_matrices(covariance=covariance)
    if covariance.shape[-2] != covariance.shape[-1]:
        raise ValueError(f"covariance must have shape (*batch, K, K), got {tuple(covariance.shape)}")
    diagonal = covariance.diagonal(dim1=-2, dim2=-1)
    _check_positive("the diagonal of covariance", diagonal)
    scale = diagonal.rsqrt()
    sign, value = torch.linalg.slogdet(scale[..., :, None] * covariance * scale[..., None, :])
    if not bool((sign > 0).all()):
        raise ValueError("covariance must be positive definite")
    return -value / 2


# ---------------------------------------------------------------------- checks


def _check(**vectors: Tensor) -> None:
    """That all are finite, of one width and dtype, and (but for the mean) positive."""
    first, *_ = vectors
    for name, vector in vectors.items():
        check_vectors(name, vector)
        if vector.shape[-1] != vectors[first].shape[-1]:
            width = vectors[first].shape[-1]
            raise ValueError(f"{name} must have {width} entries, as {first} has, got shape {tuple(vector.shape)}")
        if vector.dtype != vectors[first].dtype:
            raise ValueError(f"{name} must have the dtype of {first}, {vectors[first].dtype}, got {vector.dtype}")
        if name != "mean":
            _check_positive(name, vector)
    check_batches(**{name: tuple(vector.shape[:-1]) for name, vector in vectors.items()})


def _check_weights(weights: Tensor, mean: Tensor) -> None:
    if weights.ndim < 2 or weights.shape[-2] != mean.shape[-1]:
        raise ValueError(f"weights must have shape (*batch, {mean.shape[-1]}, Q), got {tuple(weights.shape)}")
    check_batches(weights=tuple(weights.shape[:-2]), mean=tuple(mean.shape[:-1]))


def _check_positive(name: str, values: Tensor) -> None:
    if looks() and not bool((values > 0).all()):
        raise ValueError(f"{name} must be positive, got a smallest value of {float(values.min()):g}")


def _check_columns(columns: int) -> None:
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")


def _variance(name: str, value: Number, like: Tensor) -> Tensor:
    found = per_matrix(value, like)
    found = found if isinstance(found, Tensor) else torch.tensor(found, dtype=like.dtype, device=like.device)
    check_finite(name, found)
    _check_positive(name, found)
    return found
