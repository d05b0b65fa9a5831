"""Dropout on every hidden layer of a deep linear network: its exact regulariser, a lower bound, and where it leads.

The network is W_{L+1} D_L W_L ⋯ D_1 W_1 X with D_i = diag(z)/θ_i, z Bernoulli(θ_i) on the d_i units of hidden layer i;
W is the product of all layers without masks, and λ_i = (1−θ_i)/θ_i. Then
E‖Y − W_{L+1}D_L⋯D_1W_1X‖² = ‖Y − WX‖² + R, and the regulariser R depends on how WX is factored.

Shapes throughout: weights W_i (*batch, d_i, d_{i−1}) from the first layer to the last, X (*batch, inputs, samples),
Y (*batch, outputs, samples); batch dimensions broadcast. `retain` is θ: one for all hidden layers, or a sequence of
one each; a number, or a tensor that broadcasts against (*batch). Losses are sums over samples and outputs.

Source: Mianjy and Arora (2019), "On Dropout and Nuclear Norm Regularization".
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

from repro.theory.arrays import takes_arrays
from repro.theory.checks import (
    check_batches,
    check_blocks,
    check_matrices,
    check_probability,
    check_size,
    check_vectors,
    per_matrix,
)
from repro.theory.minimizer import GlobalMinimum, global_minimizer
from repro.theory.support_norm import spectral_k_support_norm

Probability = int | float | Float[Tensor, "..."]


@takes_arrays
def deep_dropout_regularizer(
    weights: Sequence[Float[Tensor, "..."]], X: Float[Tensor, "..."], retain: Probability | Sequence[Probability]
) -> Float[Tensor, "..."]:
    """R = E‖W_{L+1}D_L⋯D_1W_1X − WX‖², by a recursion over the layers in place of a sum over sets of them.

    The second moment K = E[hhᵀ] of what a layer holds, summed over samples, starts at K = W_1 XXᵀ W_1ᵀ; masks add
    λ_i·diag(diag K), the next layer makes it W_{i+1} K W_{i+1}ᵀ, and R = tr K − ‖WX‖² at the output. Followed here is
    K minus its value without masks, so that nothing cancels however small R is. Differentiable in weights and X.

    Args:
        weights: W_1 … W_{L+1}, at least two.

    Returns:
        (*batch).

    Raises:
        ValueError: fewer than two weights, θ outside (0, 1) or not one a hidden layer, shapes that do not match,
            input that is not finite.
    """
    _check_network(weights, X)
    rates = _relative_variances(retain, weights, X)
    hidden, excess = weights[0] @ X, torch.zeros((), dtype=X.dtype, device=X.device)
    for weight, rate in zip(weights[1:], rates, strict=True):
        energies = hidden.square().sum(-1)
        if excess.ndim:
            energies = energies + excess.diagonal(dim1=-2, dim2=-1)
        added = torch.diag_embed(energies * (rate.unsqueeze(-1) if isinstance(rate, Tensor) else rate))
        excess = weight @ (excess + added) @ weight.mT
        hidden = weight @ hidden
    return excess.diagonal(dim1=-2, dim2=-1).sum(-1)


@takes_arrays
def regularizer_bound(
    weights: Sequence[Float[Tensor, "..."]], X: Float[Tensor, "..."], retain: Probability | Sequence[Probability]
) -> Float[Tensor, "..."]:
    """ν‖WX‖²_*, which R never falls below; the nuclear norm is of the network without masks.

    With one hidden layer some factorisation of every WX attains it (if it is wide enough); with more, of those of
    rank 1 alone. Arguments and errors as in `deep_dropout_regularizer`.
    """
    _check_network(weights, X)
    penalty = _penalty(_widths(weights), _relative_variances(retain, weights, X))
    prediction = X
    for weight in weights:
        prediction = weight @ prediction
    return penalty * spectral_k_support_norm(prediction, 1).square()


@takes_arrays
def induced_penalty(widths: Sequence[int], retain: Probability | Sequence[Probability]) -> Probability:
    """ν = Π_i (1 + λ_i/d_i) − 1, the weight of the squared nuclear norm that dropout induces.

    Args:
        widths: d_1 … d_L of the hidden layers.

    Raises:
        ValueError: no width, one below 1, θ outside (0, 1) or not one a hidden layer.
    """
    _check_widths(widths)
    return _penalty(widths, [_variance(theta) for theta in _per_layer(retain, len(widths))])


@takes_arrays
def critical_penalty(singular_values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """The ν = m_2/(m_1 − m_2) from which on argmin_A ‖Y − A‖² + ν‖A‖²_* has rank 1 (or 0); infinite where m_1 = m_2.

    Args:
        singular_values: m of YX⁺X (`target_spectrum`), decreasing.
    """
    check_vectors("singular_values", singular_values)
    first = singular_values[..., 0]
    second = singular_values[..., 1] if singular_values.shape[-1] > 1 else torch.zeros_like(first)
    return torch.where(second == 0, 0.0, second / (first - second))


@takes_arrays
def critical_retain(singular_values: Float[Tensor, " n"], widths: Sequence[int]) -> float:
    """The largest θ, the same in all hidden layers, at which theory says that the optimum has rank 1.

    There ν of `induced_penalty` is that of `critical_penalty`. With one hidden layer the optimum has a higher rank
    above it; with more it may have rank 1 there too, since then ν‖·‖²_* is less than what a higher rank costs.

    Raises:
        ValueError: as `induced_penalty` and `critical_penalty`.
    """
    _check_widths(widths)
    penalty = float(critical_penalty(singular_values))
    if penalty in (0, math.inf):
        return float(penalty == 0)
    root = math.expm1(math.log1p(penalty) / len(widths))  # λ/d if all widths were equal
    low, high = root * min(widths), root * max(widths)
    if low < high:
        low = brentq(lambda rate: _penalty(widths, [rate] * len(widths)) - penalty, low, high, xtol=1e-15 * high)
    return 1 / (1 + low)


@takes_arrays
def rank_one_minimizer(
    Y: Float[Tensor, "..."], X: Float[Tensor, "..."], widths: Sequence[int], retain: float | Sequence[float]
) -> GlobalMinimum:
    """The global minimum of ‖Y − WX‖² + R over all weights, in closed form where dropout is strong enough.

    argmin_A ‖Y − A‖² + ν‖A‖²_* minimises a lower bound of the objective; where it has rank 1, a network attains it,
    and it is m_1/(1+ν) times the first singular pair of YX⁺X.

    Raises:
        ValueError: that minimiser has a higher rank (θ above `critical_retain`), so that theory does not say what
            the optimum is; and as in `global_minimizer` and `induced_penalty`.
    """
    penalty = float(induced_penalty(widths, retain))
    found = global_minimizer(Y, X, 1, 1 / (1 + penalty))
    if (found.rank > 1).any():
        raise ValueError(f"retain must be small enough for an optimum of rank 1, got rank {int(found.rank.max())}")
    return found


def _penalty(widths: Sequence[int], rates: Sequence[Probability]) -> Probability:
    """Π_i (1 + λ_i/d_i) − 1, term by term so that small rates keep their digits."""
    penalty: Probability = 0.0
    for width, rate in zip(widths, rates, strict=True):
        penalty = penalty + (1 + penalty) * (rate / width)
    return penalty


def _per_layer(retain: Probability | Sequence[Probability], layers: int) -> list[Probability]:
    if isinstance(retain, int | float | Tensor):
        return [retain] * layers
    if len(retain) != layers:
        raise ValueError(
            f"retain must be one probability, or one for each of {layers} hidden layers, got {len(retain)}"
        )
    return list(retain)


def _variance(theta: Probability) -> Probability:
    check_probability("retain", theta)
    return (1 - theta) / theta


def _relative_variances(
    retain: Probability | Sequence[Probability], weights: Sequence[Tensor], X: Tensor
) -> list[Probability]:
    rates = [_variance(theta) for theta in _per_layer(retain, len(weights) - 1)]
    batches = {f"W_{i}": tuple(weight.shape[:-2]) for i, weight in enumerate(weights, start=1)}
    given = {f"retain {i}": tuple(rate.shape) for i, rate in enumerate(rates, start=1) if isinstance(rate, Tensor)}
    check_batches(**batches, X=tuple(X.shape[:-2]), **given)
    return [per_matrix(rate, X) for rate in rates]


def _widths(weights: Sequence[Tensor]) -> list[int]:
    return [weight.shape[-2] for weight in weights[:-1]]


def _check_widths(widths: Sequence[int]) -> None:
    if not widths:
        raise ValueError("widths must name at least one hidden layer, got none")
    for width in widths:
        check_blocks(width, 1)


def _check_network(weights: Sequence[Tensor], X: Tensor) -> None:
    if len(weights) < 2:
        raise ValueError(f"weights must be at least two, for a hidden layer between them, got {len(weights)}")
    check_matrices(X=X, **{f"W_{i}": weight for i, weight in enumerate(weights, start=1)})
    previous, name = X, "X"
    for i, weight in enumerate(weights, start=1):
        check_size(f"W_{i}", weight, -1, name, previous, -2)
        previous, name = weight, f"W_{i}"
