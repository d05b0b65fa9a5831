"""MNIST: the lower half of a digit from its upper half."""

from typing import Literal

from repro.data.settings import Digits, LinearSettings


class Settings(Digits, LinearSettings):
    """The upper half of a digit (392 pixels) as X, the lower half as Y, both centred."""

    kind: Literal["digit_halves"]
