"""Fully connected ReLU networks on images."""

from typing import Annotated, Literal

from pydantic import Field

from repro.pipeline.settings import Count, Model


class Settings(Model):
    """`hidden`: units of each hidden layer, (300, 100) for LeNet-300-100."""

    kind: Literal["perceptron"]
    hidden: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)]
