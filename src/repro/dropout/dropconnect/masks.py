from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from repro.dropout.distribution import Independent
from repro.dropout.dropconnect import Settings


@dataclass(frozen=True)
class DropConnect(Independent):
    """DropConnect: z i.i.d. Bernoulli(θ) on the entries of a factor (rows, d) of the linear network.

    `rows` are a for masks on U, b for masks on V.
    """

    rows: int
    width: int
    retain: float
    target: Literal["U", "V"] = "U"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rows, self.width)

    @property
    def relative_variance(self) -> Tensor:
        return (1 - self.mean) / self.mean  # without a covariance of all pairs of entries


def masks(settings: Settings, width: int, block_size: int, retain: float, outputs: int, inputs: int) -> DropConnect:
    return DropConnect(outputs if settings.target == "U" else inputs, width, retain, settings.target)
