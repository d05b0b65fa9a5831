"""MNIST: the lower half of a digit from its upper half."""

from typing import Literal

from repro.data.settings import LinearSettings


class Settings(LinearSettings):
    """The upper half of a digit (392 pixels) as X, the lower half as Y, both centred."""

    kind: Literal["digit_halves"]
    source: Literal["mnist5k", "mnist"]
    root: str | None

    @property
    def content(self) -> dict[str, str]:
        """The same digits wherever they lie."""
        return {"root": self.source} if self.source == "mnist" else {}
