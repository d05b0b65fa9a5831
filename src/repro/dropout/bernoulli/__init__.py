"""Dropout: every hidden unit by itself."""

from typing import Literal

from repro.dropout.settings import Noise


class Settings(Noise):
    scheme: Literal["bernoulli"]
