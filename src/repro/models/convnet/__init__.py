"""The ConvNet of Caffe's CIFAR example ("full")."""

from typing import Annotated, Literal

from pydantic import Field

from repro.models.convolutional import Convolutional
from repro.pipeline.settings import Count


class Settings(Convolutional):
    """`channels`: filters of the three convolutions."""

    kind: Literal["convnet"]
    channels: Annotated[tuple[Count, ...], Field(min_length=3, max_length=3, strict=False)]
