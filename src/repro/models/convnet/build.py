"""The ConvNet of Caffe's CIFAR example: three 5×5 convolutions, overlapping pools, one linear layer.

Caffe's local response normalisation is left out: it is no convolution, and takes longer than they do.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repro.models.convnet import Settings
from repro.models.initial import drawn
from repro.pipeline.system.errors import UserError

LEAST = 9  # pixels: 9 → 4 → 2 → 1, the pools rounding up


class ConvNet(nn.Module):
    """`features` maps images to the last maps, flat; `head` maps those to the classes, `forward` goes all the way.

    Args:
        settings: channels.
        in_channels: of the images.
        classes: outputs.
        seed: of the initialisation.
        size: height and width of the images.

    Raises:
        UserError: images too small for three pools.
    """

    def __init__(
        self, settings: Settings, in_channels: int, classes: int, seed: int, size: tuple[int, int] = (32, 32)
    ) -> None:
        super().__init__()
        if min(size) < LEAST:
            raise UserError(f"model.kind=convnet: images must have at least {LEAST} × {LEAST} pixels, got {size}")
        first, second, third = settings.channels
        with torch.random.fork_rng(devices=[]):  # modules draw from the global generator
            self.conv1 = nn.Conv2d(in_channels, first, 5, padding=2)
            self.conv2 = nn.Conv2d(first, second, 5, padding=2)
            self.conv3 = nn.Conv2d(second, third, 5, padding=2)
            self.largest = nn.MaxPool2d(3, 2, ceil_mode=True)
            self.mean = nn.AvgPool2d(3, 2, ceil_mode=True)
            height, width = (_pooled(_pooled(_pooled(side))) for side in size)
            self.head = nn.Linear(third * height * width, classes)
        drawn(self, seed)

    def features(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N features"]:
        maps = self.largest(self.conv1(images)).relu()
        maps = self.mean(self.conv2(maps).relu())
        return self.mean(self.conv3(maps).relu()).flatten(1)

    def forward(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N classes"]:
        return self.head(self.features(images))


def _pooled(side: int) -> int:
    """What a pool of 3 in steps of 2 leaves of a side, rounded up as Caffe does."""
    return -(-(side - 3) // 2) + 1


build = ConvNet
