"""MNIST: points on the outer contour of a digit, from a damaged picture of it."""

from typing import Annotated, Literal

from pydantic import Field

from repro.data.settings import Digits, PointSettings
from repro.pipeline.settings import Count

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(Digits, PointSettings):
    """`points` equally spaced on the contour of the clean digit. Its picture is warped by `warp` pixels (standard
    deviation), a rectangle of at most `occlusion` pixels a side is blackened, `noise` added, and all is scaled to
    `side` × `side`."""

    kind: Literal["digit_contours"]
    points: Annotated[int, Field(ge=3)]
    side: Count
    warp: Amount
    occlusion: Annotated[int, Field(ge=0, le=28)]
    noise: Amount
