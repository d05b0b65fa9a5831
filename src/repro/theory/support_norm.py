"""The k-support norm of vectors and of matrices, and the proximal map of its square.

Definition and properties: Argyriou, Foygel, Srebro (2012), "Sparse prediction with the k-support norm"; the
map and its spectral form: McDonald, Pontil, Stamos (2016), "New perspectives on k-support and cluster norms".
"""

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from repro.theory.arrays import takes_arrays
from repro.theory.checks import (
    Number,
    check_batches,
    check_matrices,
    check_support,
    check_vectors,
    check_weight,
    per_matrix,
)


@takes_arrays
def k_support_norm(values: Float[Tensor, "*batch n"], k: int) -> Float[Tensor, "*batch"]:
    """The k-support norm ‖σ‖_(k) of each vector: the norm itself, not its square.

    With |σ| sorted decreasingly and the unique ρ in 1..k for which |σ_{ρ-1}| > T_ρ/(k-ρ+1) >= |σ_ρ|, where
    T_ρ = Σ_{i>=ρ} |σ_i| and |σ_0| = ∞,

        ‖σ‖²_(k) = Σ_{i<ρ} σ_i² + T_ρ²/(k-ρ+1)  =  min { Σ σ_i²/t_i : 0 <= t_i <= 1, Σ t_i <= k }.

    k = 1 is the l1 norm, k = n the l2 norm. Differentiable wherever the vector is not zero and no tie of
    absolute values falls on ρ; O(n log n).

    Args:
        values: the vectors σ, of any sign and order, float32 or float64.
        k: size of the support, 1..n.

    Raises:
        ValueError: k outside 1..n, or values not finite.
    """
    check_vectors("values", values)
    check_support("k", k, values.shape[-1])
    if k == 1:
        return values.abs().sum(-1)
    ordered = _ascending(values.abs()).flip(-1)
    # Squares of 1e-200 or 1e200 leave the range of float64; those of entries relative to the largest do not.
    largest = ordered[..., :1].detach()
    scale = largest + (largest == 0)
    ordered = ordered / scale
    head, rest = ordered[..., : k - 1], ordered[..., k - 1 :].sum(-1)

    with torch.no_grad():
        tails = ordered.sum(-1, keepdim=True) - head.cumsum(-1)
        spare = torch.arange(k - 1, 0, -1, dtype=values.dtype, device=values.device)
        separate = tails < spare * head  # entry j keeps a square of its own when T_{j+1} < (k-j)·|σ_j|
        shared = k - separate.sum(-1, dtype=values.dtype)  # k-ρ+1

    tail = (head * ~separate).sum(-1) + rest
    parts = torch.cat([head * separate, (tail / shared.sqrt()).unsqueeze(-1)], -1)
    # vector_norm has the subgradient 0 at 0, where the root of a sum of squares would give NaN.
    return torch.linalg.vector_norm(parts, dim=-1) * scale.squeeze(-1)


@takes_arrays
def spectral_k_support_norm(matrix: Float[Tensor, "..."], k: int) -> Float[Tensor, "..."]:
    """The k-support norm of the singular values of each matrix: the norm itself, not its square.

    k = 1 is the nuclear norm, k = min(rows, columns) the Frobenius norm.

    Args:
        matrix: (*batch, rows, columns), float32 or float64.
        k: size of the support, 1..min(rows, columns).

    Returns:
        (*batch).

    Raises:
        ValueError: k outside 1..min(rows, columns), or matrix not finite.
    """
    check_matrices(matrix=matrix)
    return k_support_norm(torch.linalg.svdvals(matrix), k)


@takes_arrays
def prox_squared_k_support(
    values: Float[Tensor, "..."], k: int, weight: int | float | Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """argmin_a ‖values - a‖² + weight·‖a‖²_(k), for each vector.

    There is one number u >= 0 for each vector m = values such that, entry by entry and with the sign of m_i,

        |a_i| = max(0, min(|m_i| - weight·u, |m_i|/(1+weight))).

    It follows from the variational form (see `k_support_norm`): for fixed t the best a_i is m_i t_i/(t_i +
    weight), and the best t is t_i = clip(|m_i|/u - weight, 0, 1) with Σ t_i = k; u = 0 when at most k entries
    are not zero. With |m| sorted decreasingly, t_i = 1 for i <= s (saturated) and 0 < t_i < 1 for s < i <= e
    (between), so that u = Σ_{s<i<=e} |m_i| / (k - s + weight·(e-s)). Both s and e are counts of a monotone
    condition. Signs and order are kept; O(n log n); differentiable in values and in a tensor weight wherever
    s and e do not change.

    Args:
        values: (*batch, n), of any sign and order, float32 or float64.
        k: size of the support, 1..n.
        weight: factor of the squared norm, >= 0: a number, or a tensor that broadcasts against (*batch). In
            the convention (weight/2)·‖a‖² + ½‖values - a‖² (McDonald et al., ModOpt's beta) it is the same
            number.

    Returns:
        The minimisers, (*batch, n).

    Raises:
        ValueError: k outside 1..n, weight negative or not finite or of a shape that does not fit, values not
            finite.
    """
    check_vectors("values", values)
    check_support("k", k, values.shape[-1])
    check_weight("weight", weight)
    w = per_matrix(weight, values)
    if isinstance(w, Tensor):
        check_batches(values=tuple(values.shape[:-1]), weight=tuple(w.shape))
        batch = np.broadcast_shapes(values.shape[:-1], w.shape)
        values = values.expand(*batch, values.shape[-1])
        w = w.expand(batch).unsqueeze(-1)
    elif w == 0:
        return values.clone()
    elif values.ndim == 1 and values.device.type == "cpu" and not _recorded(values):
        return torch.from_numpy(_prox_one(values.detach().numpy(), k, float(w)))

    magnitudes = values.abs()
    ascending = _ascending(magnitudes)
    ordered = ascending.flip(-1)
    with torch.no_grad():
        saturated, active = _counts(ascending, ordered, k, w)
        rank = torch.arange(ordered.shape[-1], device=ordered.device)
        between = (rank >= saturated) & (rank < active)
    u = (ordered * between).sum(-1, keepdim=True) / _spare(k - saturated, w, active - saturated, values)
    shrunk = torch.minimum(magnitudes - w * u, magnitudes / (1 + w)).clamp_min(0)
    return torch.copysign(shrunk, values)


def _ascending(magnitudes: Tensor) -> Tensor:
    """Each vector's entries in increasing order. NumPy sorts numbers alone, PyTorch their places with them: 20 times
    as long on a CPU."""
    if magnitudes.device.type == "cpu" and not _recorded(magnitudes):
        return torch.from_numpy(np.sort(np.ascontiguousarray(magnitudes.detach().numpy()), axis=-1))
    return magnitudes.contiguous().sort().values


def _recorded(values: Tensor) -> bool:
    return torch.is_grad_enabled() and values.requires_grad


def _counts(ascending: Tensor, ordered: Tensor, k: int, w: Number) -> tuple[Tensor, Tensor]:
    """The numbers s of saturated entries and e of those with t_i > 0, (*batch, 1), both by bisection."""
    n = ordered.shape[-1]
    sums = torch.nn.functional.pad(ordered.cumsum(-1), (1, 0))  # sums[i] is that of the i largest

    def free(j: Tensor) -> Tensor:
        # Entry j (from 0) is saturated when, with u at the value |m_j|/(1+w) where it becomes so, Σ t_i is still below
        # k. At most k-1 are, or Σ t_i = k leaves nothing between. `active` counts the entries with t_i > 0 there.
        u = ordered.gather(-1, j) / (1 + w)
        active = n - torch.searchsorted(ascending, (w * u).contiguous(), right=True)
        inside = sums.gather(-1, active) - sums.gather(-1, j + 1)
        return inside >= u * _spare(k - 1 - j, w, active - 1 - j, ordered)

    def dropped(i: Tensor) -> Tensor:
        # Entry i >= s is active when |m_i| exceeds w·u for the u that entries s..i alone would give.
        inside = sums.gather(-1, i + 1) - sums.gather(-1, s)
        return ordered.gather(-1, i) * _spare(k - s, w, i + 1 - s, ordered) <= w * inside

    s = _first(free, torch.zeros_like(ordered[..., :1], dtype=torch.long), k - 1)
    return s, _first(dropped, s, n)


def _spare(spare: Tensor, w: Number, count: Tensor, like: Tensor) -> Tensor:
    """spare + w·count in the precision of `like`: a number times whole numbers would be float32."""
    return spare.to(like.dtype) + w * count.to(like.dtype)


def _first(holds: Callable[[Tensor], Tensor], low: Tensor, stop: int) -> Tensor:
    """The first index from `low` on at which a condition holds that holds ever after, or `stop`; for each vector."""
    high = torch.full_like(low, stop)
    for _ in range(stop.bit_length()):
        middle = (low + high) // 2
        found = holds(middle.clamp_max(stop - 1)) | (low == high)
        low, high = torch.where(found, low, middle + 1), torch.where(found, middle, high)
    return low


def _prox_one(values: np.ndarray, k: int, w: float) -> np.ndarray:
    """The map for one vector: both counts by bisection, so that sorting is all that costs."""
    magnitudes = np.abs(values)
    ascending = np.sort(magnitudes)
    n, ordered = len(ascending), ascending[::-1]
    sums = np.zeros(n + 1)
    np.cumsum(ordered, dtype=np.float64, out=sums[1:])

    def free(j: int) -> bool:  # entry j (from 0) is not saturated; see _counts
        u = float(ordered[j]) / (1 + w)
        active = n - int(ascending.searchsorted(ordered.dtype.type(w * u), side="right"))
        return bool(sums[active] - sums[j + 1] >= u * (k - 1 - j + w * (active - 1 - j)))

    def dropped(i: int) -> bool:  # entry i (from 0) is not active
        return bool(float(ordered[i]) * (k - s + w * (i + 1 - s)) <= w * (sums[i + 1] - sums[s]))

    s = bisect_left(range(k - 1), True, key=free)
    e = bisect_left(range(n), True, lo=s, key=dropped)
    u = float(ordered[s:e].sum(dtype=np.float64)) / (k - s + w * (e - s))
    return np.copysign(np.maximum(np.minimum(magnitudes - w * u, magnitudes / (1 + w)), 0), values)
