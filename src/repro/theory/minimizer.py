"""The global minimum that DropBlock's induced regulariser has on a linear network, in closed form."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repro.theory.arrays import takes_arrays
from repro.theory.checks import (
    check_batches,
    check_matrices,
    check_probability,
    check_samples,
    check_vectors,
    check_weight,
    per_matrix,
)
from repro.theory.support_norm import k_support_norm, prox_squared_k_support

Number = int | float | Float[Tensor, "..."]


class GlobalMinimum(NamedTuple):
    """The minimiser A of ‖Y - A‖² + λ‖A‖²_(r) over A = U Vᵀ X.

    Attributes:
        prediction: A, (*batch, outputs, samples).
        singular_values: those of A, decreasing, (*batch, min(outputs, samples)).
        objective: the minimum, with the part of ‖Y‖² that no linear map of X reaches, (*batch).
    """

    prediction: Float[Tensor, "*batch outputs samples"]
    singular_values: Float[Tensor, "*batch spectrum"]
    objective: Float[Tensor, "*batch"]

    @property
    def rank(self) -> Int[Tensor, "*batch"]:
        """The number of singular values above rounding error, (*batch)."""
        samples = max(self.prediction.shape[-2:])
        floor = samples * torch.finfo(self.singular_values.dtype).eps * self.singular_values[..., :1]
        return (self.singular_values > floor).sum(-1)


@takes_arrays
def global_minimizer(
    Y: Float[Tensor, "..."], X: Float[Tensor, "..."], block_size: int, p: int | float | Float[Tensor, "..."]
) -> GlobalMinimum:
    """The global minimum of ‖Y - A‖²_F + λ‖A‖²_(r) over all A = U Vᵀ X; λ = (1-p)/p, r = `block_size`.

    ‖·‖_(r) is the spectral r-support norm, the regulariser that DropBlock with blocks of r units and the
    width-dependent rate of `retain_probability` induces; the network reaches it once it is wide enough. Y is
    projected on the row space of X, Y P with P = X⁺X, and its singular values are shrunk by
    `shrink_singular_values`; what the projection leaves, ‖Y - YP‖², is a constant. The objective and the
    singular values are differentiable in Y.

    X may be rank-deficient, taller than wide, and need not be whitened. What lies below
    max(inputs, samples)·(machine epsilon) counts as 0: first rows of X relative to the longest, then, with
    the others scaled to length 1, singular values relative to the largest.

    Source: Pal, Lane, Vidal, Haeffele (2020).

    Args:
        Y: targets, (*batch, outputs, samples).
        X: inputs, (*batch, inputs, samples); the batch dimensions broadcast.
        block_size: r >= 1; above the number of singular values, min(outputs, samples), it acts as that
            number.
        p: retain probability of one block alone, in (0, 1): a number, or a tensor that broadcasts against
            (*batch).

    Raises:
        ValueError: block_size below 1, p outside (0, 1), shapes that do not match, input that is not finite.
    """
    _check_data(Y, X)
    _check_block_size(block_size)
    check_probability("p", p)
    if isinstance(p, Tensor):
        check_batches(p=tuple(p.shape), Y=tuple(Y.shape[:-2]), X=tuple(X.shape[:-2]))
    retained = per_matrix(p, Y)
    penalty = (1 - retained) / retained

    basis = _row_space(X)
    coordinates = Y @ basis.mT
    left, spectrum, right = torch.linalg.svd(coordinates, full_matrices=False)
    shrunk = shrink_singular_values(spectrum, block_size, penalty)
    prediction = (left * shrunk.unsqueeze(-2)) @ (right @ basis)
    unreachable = (Y - coordinates @ basis).square().sum((-2, -1))
    objective = unreachable + _value(spectrum, shrunk, block_size, penalty)
    return GlobalMinimum(prediction, _pad(shrunk, min(Y.shape[-2:])), objective)


@takes_arrays
def shrink_singular_values(
    singular_values: Float[Tensor, "*batch n"], block_size: int, penalty: Number
) -> Float[Tensor, "..."]:
    """The singular values a of the global minimum, from those of Y P: argmin_a ‖m - a‖² + penalty·‖a‖²_(r).

    For some ρ <= r and τ >= ρ, a_i = m_i/(1+λ) for i < ρ, a_i = m_i - λu for ρ <= i <= τ, and 0 after τ; a
    large λ = `penalty` leaves few: rank collapse. This is `prox_squared_k_support` on a spectrum.

    Args:
        singular_values: m >= 0, in any order, of Y P (`target_spectrum`).
        block_size: r >= 1; above n it acts as n.
        penalty: λ = (1-p)/p >= 0: a number, or a tensor that broadcasts against (*batch).

    Raises:
        ValueError: block_size below 1, penalty negative, a shape that does not fit, input that is not finite.
    """
    check_vectors("singular_values", singular_values)
    _check_block_size(block_size)
    check_weight("penalty", penalty)
    return prox_squared_k_support(singular_values, min(block_size, singular_values.shape[-1]), penalty)


@takes_arrays
def minimum_value(singular_values: Float[Tensor, "*batch n"], block_size: int, penalty: Number) -> Float[Tensor, "..."]:
    """min_a ‖m - a‖² + penalty·‖a‖²_(r): the global minimum without the constant ‖Y - YP‖².

    Arguments and errors as in `shrink_singular_values`.
    """
    shrunk = shrink_singular_values(singular_values, block_size, penalty)
    return _value(singular_values, shrunk, block_size, per_matrix(penalty, singular_values))


@takes_arrays
def target_spectrum(Y: Float[Tensor, "..."], X: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The singular values of Y P, P = X⁺X, decreasing, (*batch, min(outputs, samples)).

    Shapes and errors as in `global_minimizer`.
    """
    _check_data(Y, X)
    return _pad(torch.linalg.svdvals(Y @ _row_space(X).mT), min(Y.shape[-2:]))


def _value(spectrum: Tensor, shrunk: Tensor, block_size: int, penalty: Number) -> Tensor:
    k = min(block_size, spectrum.shape[-1])
    return (spectrum - shrunk).square().sum(-1) + penalty * k_support_norm(shrunk, k).square()


def _row_space(X: Tensor) -> Tensor:
    """Orthonormal rows spanning the row space of X, (*batch, min(inputs, samples), samples); spare: 0."""
    tolerance = max(X.shape[-2:]) * torch.finfo(X.dtype).eps
    # Units of inputs do not change the row space, but would cost the SVD as many digits as they lie apart.
    lengths = torch.linalg.vector_norm(X, dim=-1, keepdim=True)
    counted = lengths > tolerance * lengths.amax(-2, keepdim=True)
    _, scales, rows = torch.linalg.svd(X / lengths.where(counted, torch.inf), full_matrices=False)
    return rows * (scales > tolerance * scales[..., :1]).unsqueeze(-1)


def _pad(spectrum: Tensor, length: int) -> Tensor:
    """Zeros to the length of the prediction's spectrum: with few inputs the one found is shorter."""
    return torch.nn.functional.pad(spectrum, (0, length - spectrum.shape[-1]))


def _check_data(Y: Tensor, X: Tensor) -> None:
    check_matrices(Y=Y, X=X)
    check_samples(Y, X)


def _check_block_size(block_size: int) -> None:
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
