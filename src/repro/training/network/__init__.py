"""SGD on a deep network."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from repro.pipeline.settings import Count, Positive, Training, within


class Settings(Training):
    """SGD with Nesterov momentum on mini-batches, linear warm-up and cosine decay to zero.

    `mask_per: batch` drops the same last-layer units in all samples of a batch, averaged over `masks_per_step`
    draws; `sample` draws one mask for each sample, as libraries do. `processes` networks train side by side.

    `penalty_warmup: [hold, full]` trains under masks whose odds (1−θ)/θ, and so the penalty, are PENALTY_FLOOR of the
    final ones up to the fraction `hold` of the epochs, rise linearly and are whole from `full` on, where what is
    descended is the objective itself. A small class's direction gains with its size but pays with its square root:
    under the whole penalty it stays at the saddle at 0, where it has no gradient, even if the minimum has it; learned
    first and shrunk then, it goes where the minimum is.

    `batch_norm: recomputed` measures networks with the statistics of the whole training set (`exact_statistics`);
    `running` with the average that training left, as a library's evaluation mode does.
    """

    ROUNDING: ClassVar[float] = 0.2

    kind: Literal["network"]
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    momentum: Annotated[float, within("in [0, 1)", lambda value: 0 <= value < 1)]
    warmup: Annotated[float, within("in [0, 1]", lambda value: 0 <= value <= 1)]
    clip_norm: Positive | None
    loss: Literal["squared_error", "cross_entropy"]
    mask_per: Literal["batch", "sample"]
    masks_per_step: Count
    penalty_warmup: Annotated[tuple[float, float] | None, Field(strict=False)] = None
    batch_norm: Literal["recomputed", "running"] = "running"
    precision: Literal["float32", "bf16"]
    channels_last: bool
    compile: bool
    devices: Count
    # Left out of records where it is 1: those made before it existed keep their fingerprints.
    nodes: Annotated[int, Field(ge=1, exclude_if=lambda nodes: nodes == 1)] = 1
    processes: Count | None

    @model_validator(mode="after")
    def _combinations(self) -> "Settings":
        if self.masks_per_step > 1 and (self.mask_per != "batch" or self.loss != "squared_error"):
            raise ValueError(
                f"training.masks_per_step={self.masks_per_step}: averages over masks only with mask_per=batch and "
                "loss=squared_error; allowed: 1"
            )
        if self.penalty_warmup and not 0 <= self.penalty_warmup[0] < self.penalty_warmup[1] < 1:
            raise ValueError(
                f"training.penalty_warmup=[{self.penalty_warmup[0]},{self.penalty_warmup[1]}]: must be [hold, full], "
                "0 <= hold < full < 1: some epochs descend the objective itself"
            )
        if self.batch_size % self.world_size:
            all_of_them = f"training.devices={self.devices}" + (f" times nodes={self.nodes}" if self.nodes > 1 else "")
            raise ValueError(f"training.batch_size={self.batch_size}: must be a multiple of {all_of_them}")
        return self

    @property
    def layout(self) -> tuple[int, int]:
        return self.devices, self.nodes

    @property
    def smaller(self) -> str:
        return f"training.batch_size below {self.batch_size}"
