"""A linear network with one hidden layer."""

from typing import Literal

from repro.pipeline.settings import Count, Model, Positive


class Settings(Model):
    """Ŷ = U Vᵀ X with U (out_features x width) and V (in_features x width)."""

    kind: Literal["linear"]
    width: Count
    init_scale: Positive
