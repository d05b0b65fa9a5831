"""Gaussian noise with a rotated covariance, of given strength: its rates are unequal, its rotation is drawn once."""

from typing import Annotated, Literal

from pydantic import Field

from repro.dropout.settings import Noise
from repro.pipeline.settings import Seed

NoiseMean = Literal["centred", "rotated"]


class Settings(Noise):
    """`spread`: the largest rate over the smallest, a geometric series between; their mean is (1−θ)/θ."""

    scheme: Literal["structured"]
    reflections: Annotated[int, Field(ge=0)] = 2
    noise_mean: NoiseMean = "centred"
    spread: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 10.0
    rotation_seed: Seed = 0

    def fit(self, width: int) -> None:
        if self.reflections > width:
            raise ValueError(f"dropout.reflections={self.reflections}: must be at most model.width={width}")
