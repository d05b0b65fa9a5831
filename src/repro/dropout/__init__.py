"""Dropout schemes as mask distributions with exact moments."""

from repro.dropout.masks import (
    Bernoulli,
    CorrelatedGaussian,
    DropBlock,
    DropConnect,
    MaskDistribution,
    OverlappingDropBlock,
)

__all__ = [
    "Bernoulli",
    "CorrelatedGaussian",
    "DropBlock",
    "DropConnect",
    "MaskDistribution",
    "OverlappingDropBlock",
]
