"""Deterministic objectives: the exact expectation of a linear network's squared loss under dropout.

Shapes throughout: U (*batch, outputs, width), V (*batch, inputs, width), X (*batch, inputs, samples),
Y (*batch, outputs, samples); the batch dimensions broadcast, so one X and Y serve a batch of factors. The
network is U Vᵀ X; losses are sums over samples and outputs, not means. A retain probability is a number, or a
tensor that broadcasts against (*batch). Every function raises a ValueError for shapes that do not match and
for input that is not finite. All are differentiable in U, V, X and Y.
"""

from typing import overload

from jaxtyping import Float
from torch import Tensor

from repro.theory.arrays import takes_arrays
from repro.theory.checks import (
    check_batches,
    check_blocks,
    check_finite,
    check_matrices,
    check_probability,
    check_size,
    per_matrix,
)

Probability = int | float | Float[Tensor, "..."]


@overload
def retain_probability(p: float, width: int, block_size: int) -> float: ...
@overload
def retain_probability(p: Tensor, width: int, block_size: int) -> Tensor: ...
@takes_arrays
def retain_probability(p: Probability, width: int, block_size: int) -> Probability:
    """The retain probability θ(d) = p / (p + (d/r)(1-p)) of a block, for d = `width` and r = `block_size`.

    Then (1-θ)/θ = (d/r)(1-p)/p, which keeps the induced regulariser from vanishing as d grows; p is the
    retain probability that one block alone (d = r) would have. Pal, Lane, Vidal, Haeffele (2020).

    Raises:
        ValueError: p outside (0, 1), or width not a positive multiple of block_size.
    """
    check_probability("p", p)
    check_blocks(width, block_size)
    return p / (p + (width // block_size) * (1 - p))


@takes_arrays
def dropblock_objective(
    U: Float[Tensor, "..."],
    V: Float[Tensor, "..."],
    X: Float[Tensor, "..."],
    Y: Float[Tensor, "..."],
    block_size: int,
    retain: Probability,
) -> Float[Tensor, "..."]:
    """E‖Y - (1/θ) U diag(z) VᵀX‖² when disjoint blocks of `block_size` units are kept with θ = `retain`.

    Equals ‖Y - UVᵀX‖² + (1-θ)/θ · Σ_i ‖U_i V_iᵀ X‖² (Frobenius norms; blocks i of consecutive columns), with
    ‖U_iV_iᵀX‖² = ⟨U_iᵀU_i, V_iᵀXXᵀV_i⟩. block_size = 1 is Dropout. Pal, Lane, Vidal, Haeffele (2020).

    Returns:
        (*batch).

    Raises:
        ValueError: retain outside (0, 1), width not a multiple of block_size, shapes, or input that is not
            finite.
    """
    _check_network(U, V, X, Y)
    check_blocks(U.shape[-1], block_size)
    variance = _relative_variance(retain, U, V, X, Y)
    hidden = V.mT @ X
    columns = U.mT.unflatten(-2, (-1, block_size))  # (*batch, blocks, block_size, outputs)
    rows = hidden.unflatten(-2, (-1, block_size))  # (*batch, blocks, block_size, samples)
    products = ((columns @ columns.mT) * (rows @ rows.mT)).sum((-3, -2, -1))
    return _fit(U, hidden, Y) + variance * products


@takes_arrays
def dropconnect_objective(
    U: Float[Tensor, "..."],
    V: Float[Tensor, "..."],
    X: Float[Tensor, "..."],
    Y: Float[Tensor, "..."],
    retain: Probability,
    on: str = "U",
) -> Float[Tensor, "..."]:
    """E‖Y - UVᵀX‖² when each entry of U, or of V, is kept with probability θ = `retain` and scaled by 1/θ.

    On U: ‖Y - UVᵀX‖² + (1-θ)/θ Σ_i ‖u_i‖² ‖Xᵀv_i‖², exactly Dropout's.
    On V: ‖Y - UVᵀX‖² + (1-θ)/θ Σ_i ‖u_i‖² Σ_j V_ji² ‖x_j‖², x_j the rows of X: Dropout's when XXᵀ is diagonal
    (as for whitened inputs), not otherwise.

    Returns:
        (*batch).

    Raises:
        ValueError: `on` neither "U" nor "V", retain outside (0, 1), shapes, or input that is not finite.
    """
    if on not in ("U", "V"):
        raise ValueError(f"on must be 'U' or 'V', got {on!r}")
    _check_network(U, V, X, Y)
    variance = _relative_variance(retain, U, V, X, Y)
    hidden = V.mT @ X
    if on == "U":
        energies = hidden.square().sum(-1)
    else:
        energies = (V.square() * X.square().sum(-1, keepdim=True)).sum(-2)
    products = (U.square().sum(-2) * energies).sum(-1)
    return _fit(U, hidden, Y) + variance * products


@takes_arrays
def expected_objective(
    U: Float[Tensor, "..."],
    V: Float[Tensor, "..."],
    X: Float[Tensor, "..."],
    Y: Float[Tensor, "..."],
    mean: Float[Tensor, "..."],
    covariance: Float[Tensor, "..."],
) -> Float[Tensor, "..."]:
    """E‖Y - U diag(z/μ) VᵀX‖² for any multiplicative noise z of mean μ and covariance C on the hidden units.

    Equals ‖Y - UVᵀX‖² + Σ_ij C̄_ij ⟨u_i,u_j⟩ ⟨Xᵀv_i,Xᵀv_j⟩ with C̄_ij = C_ij/(μ_i μ_j).

    Args:
        mean: μ, (*batch, width), every entry > 0.
        covariance: C, (*batch, width, width), of z, not of z/μ.

    Returns:
        (*batch).

    Raises:
        ValueError: mean not positive, shapes, or input that is not finite.
    """
    _check_network(U, V, X, Y, covariance=covariance)
    if mean.ndim < 1:
        raise ValueError(f"mean must have shape (*batch, width), got {tuple(mean.shape)}")
    check_finite("mean", mean)
    if mean.dtype != U.dtype:
        raise ValueError(f"mean must have the dtype of U, {U.dtype}, got {mean.dtype}")
    check_size("mean", mean, -1, "U", U, -1)
    check_size("covariance", covariance, -1, "U", U, -1)
    check_size("covariance", covariance, -2, "U", U, -1)
    check_batches(mean=tuple(mean.shape[:-1]), **_batches(U, V, X, Y, covariance))
    if not (mean > 0).all():
        raise ValueError(f"mean must be in (0, inf), got {mean.min().item()}")
    hidden = V.mT @ X
    relative = covariance / (mean.unsqueeze(-1) * mean.unsqueeze(-2))
    products = (U.mT @ U) * (hidden @ hidden.mT)
    return _fit(U, hidden, Y) + (relative * products).sum((-2, -1))


def _fit(U: Tensor, hidden: Tensor, Y: Tensor) -> Tensor:
    return (Y - U @ hidden).square().sum((-2, -1))


def _check_network(U: Tensor, V: Tensor, X: Tensor, Y: Tensor, **others: Tensor) -> None:
    check_matrices(U=U, V=V, X=X, Y=Y, **others)
    check_size("V", V, -1, "U", U, -1)
    sizes, hint = (V.shape[-2], U.shape[-2]), ""
    if (Y.shape[-2], X.shape[-2]) == sizes:
        hint = "; X and Y, or U and V, are swapped"
    elif (X.shape[-1], Y.shape[-1]) == sizes:
        hint = "; samples are columns: transpose Y and X"
    check_size("X", X, -2, "V", V, -2, hint)
    check_size("Y", Y, -2, "U", U, -2, hint)
    check_size("Y", Y, -1, "X", X, -1)


def _batches(*matrices: Tensor) -> dict[str, tuple[int, ...]]:
    return {name: tuple(m.shape[:-2]) for name, m in zip(("U", "V", "X", "Y", "covariance"), matrices, strict=False)}


def _relative_variance(retain: Probability, *matrices: Tensor) -> Probability:
    """(1-θ)/θ: the variance of z/θ for z Bernoulli(θ)."""
    check_probability("retain", retain)
    if isinstance(retain, Tensor):
        check_batches(retain=tuple(retain.shape), **_batches(*matrices))
    theta = per_matrix(retain, matrices[0])
    return (1 - theta) / theta
