"""Networks that are trained, pruned under penalties, and fine-tuned."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from repro.pipeline.settings import Count, Positive, Probability, Training, within


class Settings(Training):
    """SGD with momentum on the cross-entropy, in three stages.

    A baseline network of each seed trains for `epochs` at `learning_rate`, which falls linearly to 0. Every method
    prunes a copy of it, in `updates` steps over the same batches: the first `pruning` of them at `rate`, which then
    falls linearly to 0. Penalties end where the last group has gone, at the latest after `pruning` updates; what the
    target still lacks then goes at once.

    `first_removal`: T/A, the updates after which incremental regularization removes its first group; `gentleness`: the
    E = rate/(1−momentum)·T²/(2A) from which T and A follow (`ceiling`, `step`). `lasso` and `afp`: the constant weights
    of the group lasso and of AFP. `groups`: columns of all convolutions, or filters of those whose outputs are added to
    nothing. `validation`: the share of the training images that is held out. `checkpoint`: updates between two.
    """

    ROUNDING: ClassVar[float] = 0.2

    kind: Literal["pruning"]
    epochs: Count
    updates: Count
    pruning: Count
    batch_size: Count
    learning_rate: Positive
    rate: Positive
    momentum: Annotated[float, within("in [0, 1)", lambda value: 0 <= value < 1)]
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    groups: Literal["column", "filter"]
    first_removal: Count
    gentleness: Positive
    lasso: Positive
    afp: Positive
    validation: Probability
    channels_last: bool
    checkpoint: Count

    @model_validator(mode="after")
    def _fine_tuning_is_left(self) -> "Settings":
        if self.pruning >= self.updates:
            raise ValueError(f"training.pruning={self.pruning}: must be below training.updates={self.updates}")
        if self.first_removal > self.pruning:
            allowed = f"must be at most training.pruning={self.pruning}, or nothing is removed under penalties"
            raise ValueError(f"training.first_removal={self.first_removal}: {allowed}")
        return self

    def ceiling(self, gentleness: float) -> float:
        """T, from E = rate/(1−momentum) · T · first_removal / 2."""
        return 2 * gentleness * (1 - self.momentum) / (self.rate * self.first_removal)

    def step(self, gentleness: float) -> float:
        """A = T / first_removal."""
        return self.ceiling(gentleness) / self.first_removal

    @property
    def smaller(self) -> str:
        return f"training.batch_size below {self.batch_size}"
