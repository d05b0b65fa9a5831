"""How far predicted points lie from true ones, and what a set of such errors comes to."""

from jaxtyping import Float
from torch import Tensor

from repro.theory.arrays import takes_arrays
from repro.theory.checks import check_vectors

EYES = (36, 45)
"""The outer corners of the eyes among the 68 points of 300-W, counted from 0."""


@takes_arrays
def landmark_errors(predicted: Float[Tensor, "..."], true: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """NRMSE: the mean distance of the points x₁ y₁ x₂ y₂ … from the true ones, over a reference length: the distance
    of the outer corners of the eyes for the 68 points of a face, else the diagonal of the true points' bounding box.

    Args:
        predicted, true: (*batch, coordinates), an even number of them.

    Raises:
        ValueError: other shapes, or true points that all lie on one place.
    """
    check_vectors("predicted", predicted)
    check_vectors("true", true)
    if predicted.shape != true.shape or true.shape[-1] % 2:
        shapes = f"{tuple(predicted.shape)} and {tuple(true.shape)}"
        raise ValueError(f"predicted and true must have one shape and x, y of every point, got {shapes}")
    points = true.unflatten(-1, (-1, 2))
    if points.shape[-2] == 68:
        reference = (points[..., EYES[0], :] - points[..., EYES[1], :]).norm(dim=-1)
    else:
        reference = (points.amax(-2) - points.amin(-2)).norm(dim=-1)
    if not (reference > 0).all():
        raise ValueError("true must not have all its points, or both eyes, on one place")
    return (predicted - true).unflatten(-1, (-1, 2)).norm(dim=-1).mean(-1) / reference


@takes_arrays
def error_share(errors: Float[Tensor, "*batch n"], limit: float = 0.1) -> Float[Tensor, "*batch"]:
    """The cumulative distribution of the errors at `limit`, CDF_limit: the share of errors ≤ limit.

    Raises:
        ValueError: errors that are negative or not finite.
    """
    _check(errors)
    return (errors <= limit).to(errors).mean(-1)


@takes_arrays
def error_auc(errors: Float[Tensor, "*batch n"], limit: float = 0.5) -> Float[Tensor, "*batch"]:
    """The area under the cumulative distribution of the errors on [0, limit], in % of the largest there can be: 100
    where all are 0, 0 where all are `limit` or more. An error e adds max(0, limit − e), which is exact.

    Raises:
        ValueError: errors that are negative or not finite, or a limit that is not above 0.
    """
    _check(errors)
    if not limit > 0:
        raise ValueError(f"limit must be greater than 0, got {limit}")
    return 100 * (1 - errors / limit).clamp(min=0).mean(-1)


def _check(errors: Tensor) -> None:
    check_vectors("errors", errors)
    if (least := float(errors.detach().min())) < 0:
        raise ValueError(f"errors must be in [0, inf), got {least}")
