"""A linear regression whose true weights are mostly zero."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from repro.pipeline.settings import Count, Data, Seed


class Settings(Data):
    """y = Xw* + noise: X (samples × features) normal, its columns scaled to norm 1; w* has `nonzeros` entries of
    magnitude uniform in [1, 2] and random sign. Every seed of a run has a problem of its own."""

    kind: Literal["sparse_regression"]
    samples: Count
    features: Count
    nonzeros: Count
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    seed: Seed

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.nonzeros > self.features:
            raise ValueError(f"data.nonzeros={self.nonzeros}: must be at most data.features={self.features}")
        return self
