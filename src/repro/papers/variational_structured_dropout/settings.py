"""What this paper's experiments take: structured noise; no training, or the ELBO's."""

from typing import Annotated

from pydantic import Field, model_validator

from repro.data.settings import ImageSettings, LinearSettings
from repro.data.synthetic import Settings as SyntheticSettings
from repro.data.tables import Settings as TableSettings
from repro.dropout.settings import Dropout
from repro.models.linear import Settings as LinearNetwork
from repro.models.variational import Settings as Perceptron
from repro.pipeline import settings
from repro.pipeline.settings import Count, Found, OneOrMany, Probability, Section
from repro.training.none import Settings as NoTraining
from repro.training.variational import Settings as VariationalTraining

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


class NetworkOptions(Section):
    """`reflections`: T of the arms; `drop_rates`: of MC dropout, of which the validation rows choose one; `ensemble`:
    its members; `validation`: the part of the training rows that only that choice sees."""

    reflections: OneOrMany[Count]
    drop_rates: OneOrMany[Probability]
    ensemble: Count
    validation: Probability


class NetworkConfig(settings.Config):
    model: Found[Perceptron]
    dropout: Dropout
    training: Found[VariationalTraining]

    @model_validator(mode="after")
    def _one_start(self) -> "NetworkConfig":
        self.dropout.only(self.name, lambda noise: noise.scheme == "structured")
        if self.dropout.retain is None or len(self.dropout.retain) > 1:
            raise ValueError("dropout.retain: must be one number, the strength of the noise that training starts from")
        return self

    @property
    def start(self) -> float:
        """The first α."""
        return (1 - self.dropout.rates()[0]) / self.dropout.rates()[0]

    def ignored(self) -> dict[str, str]:
        learned = {f"dropout.{name}": "rates and rotation are learned" for name in ("spread", "rotation_seed")}
        return super().ignored() | learned | {"dropout.reflections": "options.reflections are tried"}


class TableConfig(NetworkConfig):
    data: Found[TableSettings]


class ImageConfig(NetworkConfig):
    data: Found[ImageSettings]
