"""When noise on the hidden units is that of disjoint blocks, so that the closed forms of DropBlock hold for it."""

import torch
from jaxtyping import Float
from torch import Tensor

from repro.theory.arrays import takes_arrays
from repro.theory.checks import check_finite


@takes_arrays
def equal_blocks(relative_covariance: Float[Tensor, "..."]) -> tuple[int, float] | None:
    """(r, w) where C̄ = w·(I_k ⊗ 1_r 1_rᵀ): k blocks of r neighbouring units, kept or dropped together, all alike.

    The deterministic objective is then ‖Y − UVᵀX‖² + w Σ_i ‖U_i V_iᵀ X‖², DropBlock's at (1−θ)/θ = w: its global
    minimum is `global_minimizer` with λ = w·r/d. Dropout is r = 1.

    Args:
        relative_covariance: C̄_ij = C_ij / (μ_i μ_j) of the noise, (width, width).

    Returns:
        None for any other noise, and for none at all (C̄ = 0).

    Raises:
        ValueError: not a square matrix, or not finite.
    """
    C = relative_covariance
    if C.ndim != 2 or C.shape[0] != C.shape[1] or not len(C):
        raise ValueError(f"relative_covariance must have shape (width, width), width >= 1, got {tuple(C.shape)}")
    check_finite("relative_covariance", C)
    weight, width = float(C[0, 0]), len(C)
    floor = torch.finfo(C.dtype).eps ** 0.5 * float(C.abs().max())  # moments carry rounding
    size = int((C[0] - weight).abs().le(floor).sum())  # of the first block, if these are blocks
    if weight <= floor or width % size:
        return None
    blocks = torch.block_diag(*[torch.full((size, size), weight, dtype=C.dtype, device=C.device)] * (width // size))
    return (size, weight) if float((C - blocks).abs().max()) <= floor else None
