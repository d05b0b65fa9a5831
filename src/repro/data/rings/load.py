import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from repro.data.pairs import Read
from repro.data.rings import Settings


def load(settings: Settings) -> Read:
    """A grating within the ring, another outside, and the ring's mask, 1 within. Radii and centre are drawn so that
    the ring lies within the picture."""
    generator = torch.Generator().manual_seed(settings.seed)
    count, side = settings.samples, settings.side

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    outer = uniform(0.25, 0.45)
    inner = outer * uniform(0.4, 0.7)
    places = (torch.arange(side) + 0.5) / side
    x, y = (places - outer - (1 - 2 * outer) * uniform(0.0, 1.0) for _ in range(2))  # from the centre
    radius = (x.mT.square() + y.square()).sqrt()
    ring = ((inner <= radius) & (radius <= outer)).float()
    textures = [grating(count, side, waves, generator) for waves in ((5.0, 8.0), (2.0, 4.0))]
    picture = ring * textures[0] + (1 - ring) * textures[1]
    picture = (picture + settings.noise * torch.randn(picture.shape, generator=generator)).clamp(0, 1)
    return Read(picture.flatten(1), ring.flatten(1), (side, side))


def grating(count: int, side: int, waves: tuple[float, float], generator: Generator) -> Float[Tensor, "count s s"]:
    """Waves of a random direction and phase, so many to a side, in [0, 1]."""
    number, angle, phase = torch.rand(3, count, 1, 1, generator=generator)
    number = waves[0] + (waves[1] - waves[0]) * number
    places = torch.arange(side) / side
    along = places[:, None] * (math.pi * angle).sin() + places * (math.pi * angle).cos()
    return ((2 * math.pi * (number * along + phase)).sin() + 1) / 2
