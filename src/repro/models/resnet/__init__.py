"""Residual networks for small images."""

from typing import Literal

from pydantic import model_validator

from repro.models.settings import DeepNetwork
from repro.pipeline.settings import Count, Positive

# Backward through channels-last convolutions of fewer channels corrupts memory on CPUs (PyTorch 2.11, oneDNN).
NARROWEST = 8


class Settings(DeepNetwork):
    """A residual network whose last hidden layer has `width` units and whose last layer is linear.

    `channels` are those of the first stage at `width_factor` 1. With `embedding` a linear map takes the pooled
    channels to `width` units; without one the pooled channels, which are not negative, are the last hidden layer.
    """

    kind: Literal["resnet8", "resnet20", "resnet56", "resnet110", "resnet18", "resnet50"]
    embedding: bool
    channels: Count
    width_factor: Positive
    stem_stride: Literal[1, 2]

    @model_validator(mode="after")
    def _pooled_channels_are_the_width(self) -> "Settings":
        first = round(self.channels * self.width_factor)
        if first < NARROWEST:
            raise ValueError(f"model.width_factor={self.width_factor}: leaves {first} channels, must leave {NARROWEST}")
        pooled = first * {"resnet18": 8, "resnet50": 32}.get(self.kind, 4)
        if not self.embedding and self.width != pooled:
            needed = f"must be {pooled}, the channels of the last stage"
            raise ValueError(f"model.width={self.width}: {needed}; model.embedding=true allows any width")
        return self
