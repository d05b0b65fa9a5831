"""L-BFGS on many small problems as one batch, each with a line search of its own."""

from collections.abc import Callable

import torch
from torch import Tensor

MEMORY = 20
HALVINGS = 20
DESCENT = 1e-4  # Armijo's constant
PATIENCE = 10  # iterations without a fall after which a problem rests
ROUNDING = 1e-15


def minimise(value: Callable[[Tensor], Tensor], start: Tensor, iterations: int, tolerance: float = 1e-9) -> Tensor:
    """Points (problems, n) from `start`, none of a larger value; ends when no value has fallen for some time.

    Args:
        value: points → values, (problems,); differentiable.
        start: (problems, n).
        iterations: at most.
        tolerance: fall of a value, of 1 plus its size, in an iteration below which a problem rests.
    """
    point, (height, slope) = start, _with_gradient(value, start)
    pairs = start.new_zeros(2, len(start), 0, start.shape[1])
    still = torch.zeros(len(start), dtype=torch.int64)
    for _ in range(iterations):
        direction = -_inverse_hessian(slope, *pairs)
        along = (direction * slope).sum(-1)
        bad = ~(along < 0)
        direction = torch.where(bad[:, None], -slope, direction)
        along = torch.where(bad, -slope.square().sum(-1), along)
        length = torch.ones_like(height) if pairs.shape[2] else 1 / slope.norm(dim=-1).clamp_min(1)
        for _ in range(HALVINGS):
            new = point + length[:, None] * direction
            there, gradient = _with_gradient(value, new)
            failed = ~(there <= height + DESCENT * length * along + ROUNDING * (1 + height.abs()))
            if not (failed & (still <= PATIENCE)).any():
                break
            length = torch.where(failed, length / 2, length)
        new, there = torch.where(failed[:, None], point, new), torch.where(failed, height, there)
        gradient = torch.where(failed[:, None], slope, gradient)
        pair = torch.stack([new - point, gradient - slope])
        curved = pair.prod(0).sum(-1) > 1e-12 * pair[0].square().sum(-1)
        pairs = torch.cat([pairs, torch.where(curved[:, None], pair, 0)[:, :, None]], 2)[:, :, -MEMORY:]
        still = torch.where(height - there <= tolerance * (1 + height.abs()), still + 1, 0)
        point, height, slope = new, there, gradient
        if (still > PATIENCE).all():
            break
    return point


def _with_gradient(value: Callable[[Tensor], Tensor], point: Tensor) -> tuple[Tensor, Tensor]:
    point = point.detach().requires_grad_()
    found = value(point)
    (gradient,) = torch.autograd.grad(found.sum(), point)
    return found.detach(), gradient


def _inverse_hessian(vector: Tensor, steps: Tensor, changes: Tensor) -> Tensor:
    """Its product with `vector` (problems, n), in Byrd, Nocedal and Schnabel's compact form (1994); pairs of zeros do
    nothing."""
    if not steps.shape[1]:
        return vector
    products = steps @ changes.mT
    diagonal = products.diagonal(dim1=-2, dim2=-1)
    there = diagonal > 0
    R = products.triu() + torch.diag_embed((~there).to(products))
    length = changes.square().sum(-1)
    last = there.to(torch.int64) * torch.arange(1, there.shape[1] + 1)  # the newest pair that is there
    at = last.argmax(-1, keepdim=True)
    scale = torch.where(
        there.any(-1, keepdim=True), diagonal.gather(-1, at) / length.gather(-1, at).clamp_min(1e-300), 1
    )
    p, q = ((pairs @ vector[..., None])[..., 0] for pairs in (steps, changes))
    a = torch.linalg.solve_triangular(R, p[..., None], upper=True)[..., 0]
    inner = diagonal * a + scale * ((changes @ (changes.mT @ a[..., None]))[..., 0] - q)
    top = torch.linalg.solve_triangular(R.mT, inner[..., None], upper=False)[..., 0]
    return scale * vector + (steps.mT @ top[..., None])[..., 0] - scale * (changes.mT @ a[..., None])[..., 0]
