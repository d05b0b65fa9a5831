"""No training: what is asked is computed."""

from typing import ClassVar, Literal

from repro.pipeline.settings import Training


class Settings(Training):
    ROUNDING: ClassVar[float] = 1e-6
    ON_GPU: ClassVar[bool] = False

    kind: Literal["none"]
