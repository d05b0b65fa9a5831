"""The sets that torchvision reads, and downloads where it may."""

from typing import Literal

from repro.data.settings import ImageSettings


class Settings(ImageSettings):
    kind: Literal["mnist", "fashion_mnist", "cifar10", "cifar100"]
