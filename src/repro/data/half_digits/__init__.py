"""MNIST: the lower half of a digit from its upper half, as pictures."""

from typing import Literal

from repro.data.settings import PictureSettings


class Settings(PictureSettings):
    """The upper half of a digit (14 × 28 pixels) as input, the lower half as output."""

    kind: Literal["half_digits"]
    source: Literal["mnist5k", "mnist"]
    root: str | None

    @property
    def content(self) -> dict[str, str]:
        """The same digits wherever they lie."""
        return {"root": self.source} if self.source == "mnist" else {}
