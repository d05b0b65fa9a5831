"""Perceptrons whose layers may have a variational posterior."""

from typing import Annotated, Literal

from pydantic import Field

from repro.pipeline.settings import Count, Model


class Settings(Model):
    """`hidden`: the widths of the ReLU layers."""

    kind: Literal["mlp"]
    hidden: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)]
