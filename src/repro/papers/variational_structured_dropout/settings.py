"""What the exact experiments of this paper take: structured noise, and no training."""

from typing import Annotated

from pydantic import Field, model_validator

from repro.data.settings import LinearSettings
from repro.data.synthetic import Settings as SyntheticSettings
from repro.dropout.settings import Dropout
from repro.models.linear import Settings as LinearNetwork
from repro.pipeline import settings
from repro.pipeline.settings import Found
from repro.training.none import Settings as NoTraining

PAPER = "Structured dropout variational inference (Nguyen et al., NeurIPS 2021)"
Reflections = Annotated[int, Field(ge=0)]


class ExactConfig(settings.Config):
    model: Found[LinearNetwork]
    dropout: Dropout
    training: Found[NoTraining]

    @model_validator(mode="after")
    def _structured_alone(self) -> "ExactConfig":
        self.dropout.only(self.name, lambda noise: noise.scheme == "structured")
        return self


class NoiseConfig(ExactConfig):
    data: Found[LinearSettings]


class PosteriorConfig(ExactConfig):
    data: Found[SyntheticSettings]
