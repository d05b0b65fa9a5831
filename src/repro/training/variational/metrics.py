"""How good predicted classes are and how well they know it: torchmetrics, around two of its traps.

A confidence of exactly 1 falls into a bin of its own in its CalibrationError, beyond the last one (0.525 for 0.475 at
confidences .95 and 1, one of two right, 10 bins): confidences stop short of 1. Its binary AUROC puts a sigmoid over
scores as soon as one lies outside [0, 1], which ties the large ones: scores are divided by their bound.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    multiclass_accuracy,
    multiclass_calibration_error,
)

BELOW_1 = 1 - 1e-6


class Quality(NamedTuple):
    """Of predicted classes."""

    error: float
    nll: float
    brier: float
    ece: float


def quality(probabilities: Float[Tensor, "N classes"], labels: Int[Tensor, " N"], bins: int) -> Quality:
    """Error, NLL in nats, Brier score (the sum of squares over classes) and ECE of so many equal bins."""
    N, classes = probabilities.shape
    onehot = torch.nn.functional.one_hot(labels, classes)
    accuracy = multiclass_accuracy(probabilities, labels, classes, average="micro")
    shrunk = probabilities.clamp(0, BELOW_1)
    return Quality(
        1 - float(accuracy),
        float(-probabilities[torch.arange(N), labels].clamp_min(1e-30).log().mean()),
        float((probabilities - onehot).square().sum(-1).mean()),
        float(multiclass_calibration_error(shrunk, labels, classes, n_bins=bins, norm="l1")),
    )


def bootstrapped_ece(
    probabilities: Float[Tensor, "N classes"],
    labels: Int[Tensor, " N"],
    bins: int,
    resamples: int,
    generator: Generator,
) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of the ECE of resampled examples: Σ_b |Σ (right − confidence)|/N over bins b."""
    confidence, chosen = probabilities.clamp(0, BELOW_1).max(-1)
    rows = torch.randint(len(labels), (resamples, len(labels)), generator=generator)
    at, off = (confidence * bins).long(), (chosen == labels).to(confidence) - confidence
    sums = torch.zeros(resamples, bins).scatter_add_(1, at[rows], off[rows])
    low, high = (sums.abs().sum(1) / len(labels)).quantile(torch.tensor([0.025, 0.975]))
    return float(low), float(high)


def entropy(probabilities: Float[Tensor, "... classes"]) -> Float[Tensor, "..."]:
    """Of each row over log(classes): in [0, 1]."""
    found = -torch.special.xlogy(probabilities, probabilities).sum(-1) / math.log(probabilities.shape[-1])
    return found.clamp(0, 1)


def mutual_information(draws: Float[Tensor, "S ... classes"]) -> Float[Tensor, "..."]:
    """Between the class and the draw over log(classes): in [0, 1]."""
    return (entropy(draws.mean(0)) - entropy(draws).mean(0)).clamp(0, 1)


def detection(inside: Float[Tensor, " N"], outside: Float[Tensor, " M"]) -> tuple[float, float, float]:
    """AUROC of a score in [0, 1] for telling `outside` (high) from `inside`, and AUPR of finding either."""
    scores = torch.cat([inside, outside])
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ValueError("scores must lie in [0, 1]")
    labels = torch.cat([torch.zeros(len(inside)), torch.ones(len(outside))]).long()
    found = binary_auroc(scores, labels), binary_average_precision(scores, labels)
    return float(found[0]), float(found[1]), float(binary_average_precision(1 - scores, 1 - labels))


def reliability(
    probabilities: Float[Tensor, "N classes"], labels: Int[Tensor, " N"], bins: int
) -> Float[Tensor, "3 bins"]:
    """Of each bin of confidence: its share of the examples, their accuracy and mean confidence."""
    confidence, chosen = probabilities.clamp(0, BELOW_1).max(-1)
    at = (confidence * bins).long()
    found = torch.zeros(3, bins, dtype=torch.float64)
    for row, values in enumerate((torch.ones_like(confidence), (chosen == labels), confidence)):
        found[row].index_add_(0, at, values.double())
    found[1:] /= found[0].clamp_min(1)
    found[0] /= len(labels)
    return found
