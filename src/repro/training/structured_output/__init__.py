"""A network and two auto-encoders that share its layers, their costs weighted by schedules; several networks of one
shape as one batch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from repro.pipeline.settings import Count, Positive, Section, Training, within

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, within("in [0, 1]", lambda value: 0 <= value <= 1)]


class Importance(Section):
    """A weight along training, see `repro.theory.importance`; `begin` and `end` are shares of training."""

    shape: Literal["constant", "linear", "abrupt", "exponential"]
    weight: NotNegative
    begin: Share
    end: Share

    @model_validator(mode="after")
    def _in_order(self) -> "Importance":
        if self.begin >= self.end:
            raise ValueError(f"begin={self.begin}: must be below end={self.end}")
        return self


class Settings(Training):
    """`steps` (updates) or `epochs` (passes over the pairs): how long, one of them, the other null.

    `cost`: whether an auto-encoder's squared error is the `mean` over dimensions, as that of the outputs is, or the
    `sum`, as by the authors, which at a weight of 1 counts it as often as there are dimensions. `decay`: of
    decay·ΣW² in both auto-encoders' costs. `full_rate`: the share of training after which the step size falls linearly,
    to 0 at the end. `move`: `joint`, one step down the weighted sum; `separate`, one down each
    auto-encoder's weighted cost before it, with its own momentum, as by the authors, so that pairs count twice.
    `shuffle`: whether pairs come in a random order. `pretraining`: the share of the steps in which the comparison
    with pre-training has its auto-encoders alone. `checks`: how often the validation error is looked at.
    """

    ROUNDING: ClassVar[float] = 0.2
    BATCHED: ClassVar[bool] = True

    kind: Literal["structured_output"]
    steps: Count | None
    epochs: Count | None
    batch_size: Count
    optimizer: Literal["adam", "sgd"]
    learning_rate: Positive
    full_rate: Share
    momentum: Annotated[float, within("in [0, 1)", lambda value: 0 <= value < 1)]
    supervised: Importance
    inputs: Importance
    outputs: Importance
    cost: Literal["mean", "sum"]
    decay: NotNegative
    move: Literal["joint", "separate"]
    shuffle: bool
    pretraining: Annotated[float, within("in (0, 1)", lambda value: 0 < value < 1)]
    checks: Count

    @model_validator(mode="after")
    def _combination(self) -> "Settings":
        if (self.steps is None) == (self.epochs is None):
            both = f"training.steps={self.steps} and training.epochs={self.epochs}".replace("None", "null")
            raise ValueError(f"training.steps: {both}: one of them must be a number, the other null")
        if self.move == "separate" and self.optimizer == "adam":
            raise ValueError(
                "training.move=separate: Adam's step does not see by what a cost alone is weighted; use sgd"
            )
        return self

    def ignored(self) -> dict[str, str]:
        found = {"training.momentum": "Adam has its own"} if self.optimizer == "adam" else {}
        for name in ("supervised", "inputs", "outputs"):
            shape = getattr(self, name).shape
            unused = {"constant": ("begin", "end"), "abrupt": ("begin",)}.get(shape, ())
            found |= {f"training.{name}.{key}": f"a schedule that is {shape} has none" for key in unused}
        return found

    def length(self, pairs: int) -> int:
        """Updates on so many pairs."""
        return self.steps or (self.epochs or 0) * -(-pairs // self.batch_size)

    @property
    def smaller(self) -> str:
        return "fewer seeds, or training.batch_size below " + str(self.batch_size)
