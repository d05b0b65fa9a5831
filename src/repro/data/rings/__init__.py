"""A ring of one texture on another, and its mask: as many as one likes."""

from typing import Annotated, Literal

from pydantic import Field

from repro.data.settings import PictureSettings
from repro.pipeline.settings import Count


class Settings(PictureSettings):
    """`samples` pictures of `side` × `side` pixels; `noise`: the standard deviation of what is added to them."""

    kind: Literal["rings"]
    samples: Count
    side: Annotated[int, Field(ge=8)]
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)]
