"""Multiplicative Gaussian noise."""

from typing import Literal

from repro.dropout.settings import Noise
from repro.pipeline.settings import Correlation


class Settings(Noise):
    scheme: Literal["gaussian"]
    correlation: Correlation = 0.0  # between neighbouring units
