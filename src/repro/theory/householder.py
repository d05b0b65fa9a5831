"""Products of Householder reflections U = H_T ⋯ H_1, H_t = I − 2 v_t v_tᵀ/‖v_t‖², as U = I − V S Vᵀ: no K×K matrix.

V (K×T) holds the normed vectors, S the T×T lower triangle with S⁻¹ = ½ I + (VᵀV below its diagonal), the compact form
of Schreiber and Van Loan (1989). Vectors stand in rows, (*batch, T, K); T = 0 is U = I.
"""

from jaxtyping import Float
from torch import Tensor, eye, linalg, stack

from repro.theory.checks import check_finite

Several = Float[Tensor, "..."]


def compact(vectors: Several) -> tuple[Several, Several]:
    """L and V of U = I − L Vᵀ, L = V S, both in rows, (*batch, T, K), T ≥ 1. Differentiable; checks nothing."""
    rows = linalg.vector_norm(vectors, dim=-1, keepdim=True).reciprocal() * vectors
    inverse = (rows @ rows.mT).tril(-1) + eye(rows.shape[-2], dtype=rows.dtype, device=rows.device) / 2
    return linalg.solve_triangular(inverse.mT, rows, upper=True), rows


def reflected(values: Several, vectors: Several, *, transposed: bool = False) -> Several:
    """U x (or Uᵀ x) for each row x of `values` (*batch, n, K), at O(n T K): the same shape. T = 0 gives `values`."""
    if not vectors.shape[-2]:
        return values
    left, rows = compact(vectors)
    first, second = (left, rows) if transposed else (rows, left)
    return values - values @ first.mT @ second


def rotated_noise(normal: Several, rates: Several, vectors: Several) -> Several:
    """U diag(√α) ε for each column ε of `normal` (*batch, K, n), at O(n T K): the same shape.

    As `reflected` on columns, in an order in which the gradient takes no further pass over a K×n matrix.
    """
    deviations = rates.sqrt()
    found = deviations[..., None] * normal
    if not vectors.shape[-2]:
        return found
    left, rows = compact(vectors)
    return found - left.mT @ ((rows * deviations[..., None, :]) @ normal)


def covariance_diagonal(rates: Several, vectors: Several) -> Several:
    """diag(U diag(α) Uᵀ), (*batch, K), for rates α (*batch, K), at O(T²K)."""
    if not vectors.shape[-2]:
        return rates
    left, rows = compact(vectors)
    weighted = rows * rates[..., None, :]  # VᵀA
    return rates + (((weighted @ rows.mT) @ left - 2 * weighted) * left).sum(-2)


def factors(rotation: Several) -> Several:
    """Vectors (*batch, K − 1, K) of reflections whose product is U up to the signs of its columns.

    C = U diag(α) Uᵀ has no part in those signs, so that K − 1 reflections reach every covariance. Householder's
    own elimination of U below its diagonal, column by column, which for an orthogonal U leaves ±1 on it.
    """
    left, found = rotation.clone(), []
    width = rotation.shape[-1]
    for column in range(width - 1):
        v = left[..., column].clone()
        v[..., :column] = 0
        v[..., column] += v[..., column].sign() + (v[..., column] == 0)
        left = reflected(left.mT, v[..., None, :]).mT
        found.append(v)
    return stack(found[::-1], -2) if found else rotation.new_zeros(*rotation.shape[:-2], 0, width)


def check_householder(vectors: Float[Tensor, "..."], width: int) -> None:
    """Raise a ValueError unless `vectors` are (*batch, T, width), T ≤ width, finite and none of them zero."""
    if vectors.ndim < 2 or vectors.shape[-1] != width:
        raise ValueError(f"vectors must have shape (*batch, T, {width}), got {tuple(vectors.shape)}")
    if vectors.shape[-2] > width:
        raise ValueError(f"vectors must be at most {width}, one for each input, got {vectors.shape[-2]}")
    check_finite("vectors", vectors)
    if vectors.numel() and not bool((vectors != 0).any(-1).all()):
        raise ValueError("vectors must not be zero: a reflection needs a direction")
