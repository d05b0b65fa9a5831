"""What this paper's experiments share of their settings."""

from repro.dropout.settings import Dropout
from repro.pipeline import settings


class Config(settings.Config):
    dropout: Dropout


NO_NOISE = "how much is dropped follows from the weights, by the strategies"
NO_MODEL = "what is trained is a vector of weights"
