"""What this paper's experiments take: a grid of noise on a linear network, or on the last layer of a residual one."""

from pydantic import model_validator

from repro.data.settings import ImageSettings, LinearSettings
from repro.dropout.settings import Dropout
from repro.models.linear import Settings as LinearNetwork
from repro.models.settings import DeepNetwork
from repro.pipeline.settings import Config, Count, Found, Section
from repro.training.network import Settings as NetworkTraining
from repro.training.sweep import Settings as SweepTraining


def drawn(dropout: Dropout) -> tuple[int, int]:
    """A panel a noise and block size, a series a rate."""
    return len([*dropout.points()]) // len(dropout.rates()), len(dropout.rates())


class LinearConfig(Config):
    data: Found[LinearSettings]
    model: Found[LinearNetwork]
    dropout: Dropout
    training: Found[SweepTraining]

    @model_validator(mode="after")
    def _blocks_fit(self) -> "LinearConfig":
        self.dropout.fit(self.model.width)
        return self

    @property
    def cells(self) -> int:
        return len([*self.dropout.points()]) * len(self.seed)

    @property
    def drawn(self) -> tuple[int, int]:
        return drawn(self.dropout)


class DeepConfig(Config):
    data: Found[ImageSettings]
    model: Found[DeepNetwork]
    dropout: Dropout
    training: Found[NetworkTraining]

    @model_validator(mode="after")
    def _blocks_fit(self) -> "DeepConfig":
        self.dropout.fit(self.model.width)
        return self

    @property
    def drawn(self) -> tuple[int, int]:
        return drawn(self.dropout)


class MonteCarlo(Section):
    """`monte_carlo_masks`: masks that each measurement of the stochastic objective averages over."""

    monte_carlo_masks: Count = 16384
