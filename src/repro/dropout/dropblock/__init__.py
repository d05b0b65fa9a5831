"""DropBlock: disjoint blocks of hidden units."""

from typing import Literal

from repro.dropout.settings import Noise


class Settings(Noise):
    scheme: Literal["dropblock"]
    blocks = "disjoint"
