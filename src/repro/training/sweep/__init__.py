"""SGD on a whole grid of linear networks as one batch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from repro.pipeline.settings import Count, Positive, Training, within


class Settings(Training):
    """SGD with momentum on all cells of a grid at once."""

    BATCHED: ClassVar[bool] = True

    kind: Literal["sweep"]
    steps: Count
    masks_per_step: Count
    learning_rate: Positive
    momentum: Annotated[float, within("in [0, 1)", lambda value: 0 <= value < 1)]
    warmup: Annotated[float, within("in [0, 1]", lambda value: 0 <= value <= 1)]
    schedule: Literal["cosine", "constant"]
    dtype: Literal["float32", "float64"]
    log_points: Annotated[int, Field(ge=2)]
