"""A noise: `dropout=shared_coin`."""

from dataclasses import dataclass

import torch

from repro.dropout import MaskDistribution
from repro.dropout.distribution import drawing
from repro.dropout.settings import Noise
from repro.pipeline.settings import Probability


class Settings(Noise):
    together: Probability


@dataclass(frozen=True)
class SharedCoin(MaskDistribution):
    """z_i = 1 with probability θ: with probability `together` the same coin for all units, else one each.

    E[z_i] = θ, which is what the base says; Cov[z_i, z_j] = θ(1−θ) for i = j, `together` times that otherwise.
    """

    width: int
    retain: float
    together: float

    @property
    def covariance(self):
        units = torch.eye(self.width, dtype=torch.float64)
        return self.retain * (1 - self.retain) * (self.together + (1 - self.together) * units)

    def sample(self, count, generator, dtype=torch.float32):
        def coin(probability, units):
            return torch.rand(count, units, **drawing(generator)) < probability

        masks = torch.where(coin(self.together, 1), coin(self.retain, 1), coin(self.retain, self.width))
        return masks.to(dtype)


def masks(settings, width, block_size, retain, outputs, inputs):
    return SharedCoin(width, retain, settings.together)
