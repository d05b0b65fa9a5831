"""The 5,000 MNIST digits that a dependency carries."""

from typing import Literal

from repro.data.settings import ImageSettings


class Settings(ImageSettings):
    kind: Literal["mnist5k"]
