"""Products of Householder reflections U = H_T ⋯ H_1, H_t = I − 2 v_t v_tᵀ/‖v_t‖², as U = I − V S Vᵀ: no K×K matrix.

V (K×T) holds the normed vectors, S the T×T lower triangle with S⁻¹ = ½ I + (VᵀV below its diagonal), the compact form
of Schreiber and Van Loan (1989). Vectors stand in rows, (*batch, T, K); T = 0 is U = I.
"""

from jaxtyping import Float
from torch import Tensor, eye, linalg

from repro.theory.checks import check_finite


def compact(vectors: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """V of U = I − V S Vᵀ in rows, (*batch, T, K), and S, (*batch, T, T), T ≥ 1. Differentiable; checks nothing."""
    rows = vectors / vectors.norm(dim=-1, keepdim=True)
    half = eye(rows.shape[-2], dtype=rows.dtype, device=rows.device)
    inverse = half / 2 + (rows @ rows.mT).tril(-1)
    return rows, linalg.solve_triangular(inverse, half.expand_as(inverse), upper=False)


def reflected(
    values: Float[Tensor, "..."], vectors: Float[Tensor, "..."], *, transposed: bool = False
) -> Float[Tensor, "..."]:
    """U x (or Uᵀ x) for each row x of `values` (*batch, n, K), at O(n T K): the same shape. T = 0 gives `values`."""
    if not vectors.shape[-2]:
        return values
    rows, S = compact(vectors)
    return values - values @ rows.mT @ (S if transposed else S.mT) @ rows


def covariance_diagonal(rates: Float[Tensor, "..."], vectors: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """diag(U diag(α) Uᵀ), (*batch, K), for rates α (*batch, K), at O(T²K)."""
    if not vectors.shape[-2]:
        return rates
    rows, S = compact(vectors)
    weighted = rows * rates[..., None, :]  # VᵀA
    left = S.mT @ rows  # (V S)ᵀ
    inner = weighted @ rows.mT  # VᵀAV
    return rates - 2 * (left * weighted).sum(-2) + ((inner @ left) * left).sum(-2)


def check_householder(vectors: Float[Tensor, "..."], width: int) -> None:
    """Raise a ValueError unless `vectors` are (*batch, T, width), T ≤ width, finite and none of them zero."""
    if vectors.ndim < 2 or vectors.shape[-1] != width:
        raise ValueError(f"vectors must have shape (*batch, T, {width}), got {tuple(vectors.shape)}")
    if vectors.shape[-2] > width:
        raise ValueError(f"vectors must be at most {width}, one for each input, got {vectors.shape[-2]}")
    check_finite("vectors", vectors)
    if vectors.numel() and not bool((vectors != 0).any(-1).all()):
        raise ValueError("vectors must not be zero: a reflection needs a direction")
