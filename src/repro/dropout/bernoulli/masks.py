from dataclasses import dataclass

from repro.dropout.bernoulli import Settings
from repro.dropout.distribution import Independent


@dataclass(frozen=True)
class Bernoulli(Independent):
    """Dropout: z_i i.i.d. Bernoulli(θ), i ≤ d."""

    width: int
    retain: float


def masks(settings: Settings, width: int, block_size: int, retain: float, outputs: int, inputs: int) -> Bernoulli:
    return Bernoulli(width, retain)
