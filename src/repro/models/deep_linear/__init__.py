"""Linear networks with several hidden layers."""

from typing import Annotated, Literal

from pydantic import Field

from repro.pipeline.settings import Count, Model, OneOrMany, Positive


class Settings(Model):
    """W_depth ⋯ W_1 X with `width` units in each of the depth − 1 hidden layers; one or several of both."""

    kind: Literal["deep_linear"]
    depth: OneOrMany[Annotated[int, Field(ge=2)]]
    width: OneOrMany[Count]
    init_scale: Positive
