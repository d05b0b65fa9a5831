"""DropConnect: every weight of U, or of V, by itself."""

from typing import Literal

from repro.dropout.settings import Noise


class Settings(Noise):
    scheme: Literal["dropconnect_U", "dropconnect_V"]

    @property
    def target(self) -> Literal["U", "V"]:
        return "U" if self.scheme == "dropconnect_U" else "V"
