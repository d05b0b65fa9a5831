"""What this paper's experiments share of their settings."""

from repro.dropout.settings import Dropout
from repro.pipeline import settings


class Config(settings.Config):
    dropout: Dropout


NO_NOISE = "penalties prune, and no unit is dropped at random"
