"""What a growing L2 penalty does to weights: at the minimum of a quadratic, and on the way to their removal."""

import torch
from jaxtyping import Float
from torch import Tensor

from repro.theory.arrays import takes_arrays
from repro.theory.checks import (
    Number,
    check_finite,
    check_matrices,
    check_size,
    check_vectors,
    check_weight,
    per_matrix,
)


@takes_arrays
def shrinkage(curvature: Float[Tensor, "*batch"], penalty: Number) -> Float[Tensor, "*batch"]:
    """1/(1 + δλ/h): what is left of a weight of curvature h > 0 when its penalty δλ w²/2 is added; more where h is
    larger. Source: Wang, Qin, Zhang, Fu (2021), section 3.2.

    Raises:
        ValueError: a curvature that is not positive, or a penalty that is negative or not finite.
    """
    check_finite("curvature", curvature)
    if curvature.numel() and float(curvature.detach().amin()) <= 0:
        raise ValueError(f"curvature must be in (0, inf), got {float(curvature.detach().amin())}")
    check_weight("penalty", penalty)
    return 1 / (1 + per_matrix(penalty, curvature) / curvature)


@takes_arrays
def penalized_minimizer(H: Float[Tensor, "..."], w: Float[Tensor, "..."], penalty: Number) -> Float[Tensor, "..."]:
    """(H + δλ I)⁻¹ H w*: where the minimum w* of a quadratic of Hessian H moves to under δλ‖w‖²/2. For diagonal H
    each weight shrinks by `shrinkage`; else they mix. Source: as there.

    Args:
        H: (n, n), symmetric and positive definite.
        w: w*, (n,).
        penalty: δλ ≥ 0.

    Raises:
        ValueError: shapes that do not fit, an H that is not positive definite, or a negative penalty.
    """
    check_matrices(H=H)
    check_vectors("w", w)
    check_size("w", w, -1, "H", H, -1)
    check_size("H", H, -2, "H", H, -1)
    check_weight("penalty", penalty)
    shifted = H + per_matrix(penalty, H) * torch.eye(H.shape[-1], dtype=H.dtype, device=H.device)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if bool((failed > 0).any()):
        raise ValueError("H must be positive definite")
    return torch.cholesky_solve((H @ w[..., None]), factor)[..., 0]


@takes_arrays
def gentleness(learning_rate: Number, momentum: Number, ceiling: Number, step: Number) -> Number:
    """E = η/(1−β) · T²/(2A): before its removal a group's weights shrink by about exp(−E), the loss's gradient apart,
    if its penalty gains `step` at each update until it is at `ceiling`: η/(1−β) is the step size that momentum amounts
    to, and T²/(2A) the sum of λ over the T/A updates. Ours.

    Raises:
        ValueError: a negative argument, a momentum of 1 or more, or a step of 0.
    """
    for name, value in (("learning_rate", learning_rate), ("momentum", momentum), ("ceiling", ceiling), ("step", step)):
        check_weight(name, value)
    if bool(momentum >= 1):
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    if bool(step == 0):
        raise ValueError(f"step must be in (0, inf), got {step}")
    return learning_rate / (1 - momentum) * ceiling**2 / (2 * step)
