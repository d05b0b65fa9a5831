"""Fully connected networks whose weights are dropped, or penalised, by strategies that follow the weights."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from repro.pipeline.settings import Count, Positive, Probability, Section, Training


class Rates(Section):
    """Peak step size of the weights, by method."""

    plain: Positive
    log_sum: Positive
    ada_tikhonov: Positive
    ada_prox: Positive
    eta_trick: Positive
    dropout: Positive
    var_drop: Positive
    var_drop_lr: Positive
    var_drop_lr_ar: Positive


class LogRates(Section):
    """Peak step size of log(η/λ), of log variances and of log σ."""

    eta_trick: Positive
    var_drop: Positive
    var_drop_lr: Positive
    var_drop_lr_ar: Positive


class Settings(Training):
    """Adam on mini-batches, step sizes falling linearly to 0; the networks of a method train as one batch.

    `fine_tuning`: epochs after pruning. `weight` = λ and `epsilon` of the penalty λ Σ log(|w|+ε); variational methods
    take the divergence over `divergence_images`. `zero`: the retain probability below which a weight counts as zero.
    """

    ROUNDING: ClassVar[float] = 0.2
    BATCHED: ClassVar[bool] = True

    kind: Literal["adaptive"]
    epochs: Count
    fine_tuning: Annotated[int, Field(ge=0)]
    batch_size: Count
    weight: Positive
    epsilon: Positive
    divergence_images: Count
    zero: Probability
    rates: Rates
    log_rates: LogRates

    @property
    def smaller(self) -> str:
        return "fewer seeds, or training.batch_size below " + str(self.batch_size)
