"""The original DropBlock: blocks of hidden units that may overlap."""

from typing import Literal

from repro.dropout.settings import Noise


class Settings(Noise):
    scheme: Literal["overlapping_dropblock"]
    blocks = "overlapping"
