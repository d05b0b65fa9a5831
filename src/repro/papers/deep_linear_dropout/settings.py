"""What the experiments on deep linear networks take: Dropout, of the same rate on every hidden layer."""

from math import prod

from pydantic import model_validator

from repro.data.settings import LinearSettings
from repro.dropout.settings import Dropout
from repro.models.deep_linear import Settings as DeepLinearSettings
from repro.pipeline import settings
from repro.pipeline.settings import Found
from repro.training.sweep import Settings as SweepSettings


class Config(settings.Config):
    data: Found[LinearSettings]
    model: Found[DeepLinearSettings]
    dropout: Dropout
    training: Found[SweepSettings]

    @model_validator(mode="after")
    def _dropout_alone(self) -> "Config":
        self.dropout.only(self.name, lambda noise: noise.scheme == "bernoulli")
        return self

    @property
    def networks(self) -> int:
        return prod(map(len, (self.model.depth, self.model.width, self.dropout.rates(), self.seed)))

    @property
    def drawn(self) -> tuple[int, int]:
        return len(self.model.depth), len(self.model.width)
