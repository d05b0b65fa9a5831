"""LeNet-5 of Caffe's example: 5×5 convolutions, each followed by max-pooling, without a ReLU between."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repro.models.initial import drawn
from repro.models.lenet5 import Settings
from repro.pipeline.system.errors import UserError

LEAST = 16  # pixels: 16 → 12 → 6 → 2 → 1


class LeNet5(nn.Module):
    """`features` maps images to `hidden` units (N, hidden); `head` maps them to classes, `forward` goes all the way.

    Args:
        settings: channels and units.
        in_channels: of the images.
        classes: outputs.
        seed: of the initialisation.
        size: height and width of the images.

    Raises:
        UserError: images of which nothing is left after two convolutions.
    """

    def __init__(
        self, settings: Settings, in_channels: int, classes: int, seed: int, size: tuple[int, int] = (28, 28)
    ) -> None:
        super().__init__()
        if min(size) < LEAST:
            raise UserError(f"model.kind=lenet5: images must have at least {LEAST} × {LEAST} pixels, got {size}")
        first, second = settings.channels
        height, width = (((side - 4) // 2 - 4) // 2 for side in size)
        with torch.random.fork_rng(devices=[]):  # modules draw from the global generator
            self.conv1 = nn.Conv2d(in_channels, first, 5)
            self.conv2 = nn.Conv2d(first, second, 5)
            self.pool = nn.MaxPool2d(2)
            self.hidden = nn.Linear(second * height * width, settings.hidden)
            self.head = nn.Linear(settings.hidden, classes)
        drawn(self, seed)

    def features(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N hidden"]:
        maps = self.pool(self.conv2(self.pool(self.conv1(images))))
        return self.hidden(maps.flatten(1)).relu()

    def forward(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N classes"]:
        return self.head(self.features(images))


build = LeNet5
