"""Stationary points of regressions under sparse penalties, in two ways that share nothing but the penalty."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from repro.theory.penalties import WithProx
from repro.training.reweighting.problem import Cells

ROUND = 10  # iterations between two looks at which cells are done and which weights are left
FADING = 1e-3  # retain probability below which a weight that falls, and may be zero, is set to zero
RIDGE = 1e-11  # where more weights than samples are always retained, the least squares have no other solution
RETURN = 1e-2  # and that of a weight that must come back


class Solution(NamedTuple):
    weights: Float[Tensor, "cells d"]
    iterations: Float[Tensor, " cells"]


def reweighted(cells: Cells, start: Float[Tensor, "cells d"], iterations: int, tolerance: float) -> Solution:
    """Adaptive dropout in expectation: w ← argmin ½‖y − Xw‖² + ½ Σ (1−α_j)/α_j w_j², α ← α(w), from `start` on.

    With S = diag √α the ridge regression is w = S (S XᵀX S + 1 − α)⁻¹ S Xᵀy, well posed from α = 0 to α = 1. A weight
    of the solution's zeros falls by the factor |∂_j|/(λΩ'(0⁺)) an iteration, which may be close to 1; one whose retain
    probability is small, that falls, and that satisfies |∂_j| < λΩ'(0⁺), is set to 0, and returns where that no longer
    holds. Rows that are done leave the batch, columns that are zero everywhere the systems.
    """
    w, count = start.clone(), torch.zeros(len(cells), dtype=torch.float64)
    left = torch.arange(len(cells))
    while len(left) and float(count.max()) < iterations:
        some, now = cells[left], w[left]
        width = max(1, int((now != 0).sum(1).max()))
        columns = (now != 0).double().topk(width, dim=1).indices.sort(1).values
        gram = some.gram.gather(1, columns[:, :, None].expand(-1, -1, some.gram.shape[2]))
        gram = gram.gather(2, columns[:, None, :].expand(-1, width, -1))
        moment, short = some.moment.gather(1, columns), now.gather(1, columns)
        for _ in range(ROUND):
            before = short
            alpha = some.retain(short)
            root = alpha.sqrt()
            system = root[:, :, None] * gram * root[:, None, :] + torch.diag_embed((1 - alpha).clamp_min(RIDGE))
            solved = torch.cholesky_solve((root * moment).unsqueeze(-1), torch.linalg.cholesky(system))
            short = root * solved.squeeze(-1)
        moved = (short - before).abs().amax(1)
        now = torch.zeros_like(now).scatter(1, columns, short)
        falls = torch.zeros_like(now).scatter(1, columns, (before.abs() - short.abs())) > 0
        gradient, steepest = some.gradient(now), some.slope(torch.zeros_like(now))
        may_be_zero = gradient.abs() < steepest
        fading = (now != 0) & falls & may_be_zero & (some.retain(now) < FADING)
        now = torch.where(fading, 0.0, now)
        returns = (now == 0) & (some.gradient(now).abs() > steepest * (1 + 1e-9)) & (steepest > 0)
        back = -gradient.sign() * RETURN * some.weight[:, None] / steepest.clamp_min(1e-9) * some.weight[:, None]
        now = torch.where(returns, back, now)
        w[left] = now
        count[left] += ROUND
        left = left[(moved > tolerance) | fading.any(1) | returns.any(1)]
    return Solution(w, count)


def proximal_gradient(cells: Cells, start: Float[Tensor, "cells d"], iterations: int, tolerance: float) -> Solution:
    """w ← prox(w − t ∂(w), tλ) with the step t = 1/‖XᵀX‖ and the global prox: no retain probability, no η̂.

    Nesterov's momentum, restarted where it turns against the step. Penalties must be `WithProx`.
    """
    step = 1 / torch.linalg.matrix_norm(cells.gram, 2)
    w, ahead, count = start.clone(), start.clone(), torch.zeros(len(cells), dtype=torch.float64)
    speed = torch.ones(len(cells), dtype=torch.float64)
    left = torch.arange(len(cells))
    some, t = cells, step[:, None]
    for iteration in range(1, iterations + 1):
        z = ahead - t * some.gradient(ahead)
        new = torch.empty_like(z)
        for penalty, rows in some._runs:
            assert isinstance(penalty, WithProx)
            new[rows] = penalty.prox(z[rows], (t * some.weight[:, None])[rows])
        old = w[left]
        faster = (1 + (1 + 4 * speed**2).sqrt()) / 2
        turned = ((ahead - new) * (new - old)).sum(1) > 0
        momentum = torch.where(turned, 0.0, (speed - 1) / faster)
        speed = torch.where(turned, 1.0, faster)
        ahead = new + momentum[:, None] * (new - old)
        w[left] = new
        if iteration % ROUND == 0:
            count[left] += ROUND
            going = (new - old).abs().amax(1) > tolerance
            left, some, t = left[going], some[going.nonzero()[:, 0]], t[going]
            ahead, speed = ahead[going], speed[going]
            if not len(left):
                break
    return Solution(w, count)
