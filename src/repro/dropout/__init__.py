"""Noise: each scheme a folder with its settings and its distribution of masks, of exact mean and covariance.

The public names load when they are asked for, so that the settings do without torch.
"""

from importlib import import_module

_MODULES = {
    "Bernoulli": "bernoulli.masks",
    "CorrelatedGaussian": "gaussian.masks",
    "DropBlock": "dropblock.masks",
    "DropBlock1d": "layers",
    "DropBlock2d": "layers",
    "DropConnect": "dropconnect.masks",
    "FeatureDropout": "layers",
    "MaskDistribution": "distribution",
    "OriginalDropBlock2d": "original_dropblock",
    "OverlappingDropBlock": "overlapping_dropblock.masks",
    "StructuredGaussian": "structured.masks",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
