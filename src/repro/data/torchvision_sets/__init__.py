"""The sets that torchvision reads, and downloads where it may."""

from typing import Literal

from repro.data.settings import ImageSettings


class Settings(ImageSettings):
    kind: Literal["mnist", "fashion_mnist", "cifar10", "cifar100"]

    @property
    def content(self) -> dict[str, str]:
        """The same set wherever it lies, and whoever has fetched it."""
        return dict.fromkeys(("root", "download"), self.kind)
