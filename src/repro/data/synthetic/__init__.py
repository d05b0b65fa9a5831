"""Synthetic inputs and targets of a given rank."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from repro.data.settings import LinearSettings
from repro.pipeline.settings import Correlation, Count, Seed


class Settings(LinearSettings):
    """X (in_features x samples) normal, Y = U₀V₀ᵀX + noise with U₀V₀ᵀ of the given rank.

    `correlation` is that of neighbouring features: Cov[x_i, x_j] = correlation^|i−j|.
    """

    kind: Literal["synthetic"]
    in_features: Count
    out_features: Count
    samples: Count
    rank: Count
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    correlation: Correlation
    seed: Seed

    @model_validator(mode="after")
    def _rank_fits(self) -> "Settings":
        limit = min(self.in_features, self.out_features)
        if self.rank > limit:
            smaller = "the smaller of in_features and out_features"
            raise ValueError(f"data.rank={self.rank}: must be at most {limit}, {smaller}")
        return self
