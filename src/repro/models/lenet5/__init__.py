"""LeNet-5 as Caffe has it."""

from typing import Annotated, Literal

from pydantic import Field

from repro.models.convolutional import Convolutional
from repro.pipeline.settings import Count


class Settings(Convolutional):
    """`channels`: filters of the two convolutions; `hidden`: units between the last of them and the classes."""

    kind: Literal["lenet5"]
    channels: Annotated[tuple[Count, ...], Field(min_length=2, max_length=2, strict=False)]
    hidden: Count
