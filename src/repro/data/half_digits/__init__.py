"""MNIST: the lower half of a digit from its upper half, as pictures."""

from typing import Literal

from repro.data.settings import Digits, PictureSettings


class Settings(Digits, PictureSettings):
    """The upper half of a digit (14 × 28 pixels) as input, the lower half as output."""

    kind: Literal["half_digits"]
