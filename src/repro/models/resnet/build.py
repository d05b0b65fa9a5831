"""Residual networks for small images: features g(x), and a linear last layer on top of them.

ResNet-8/20/56/110 are those of He et al. (2016), section 4.2 (three stages of 3×3 blocks, 6n + 2 layers), with
projections where the shape changes; ResNet-18/50 are torchvision's four stages behind a stem for small images (3×3,
no pooling). All are built from torchvision's blocks.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import Conv2dNormActivation

from repro.models.resnet import Settings

DEPTHS = {
    "resnet8": (1, 1, 1),
    "resnet20": (3, 3, 3),
    "resnet56": (9, 9, 9),
    "resnet110": (18, 18, 18),
    "resnet18": (2, 2, 2, 2),
    "resnet50": (3, 4, 6, 3),
}

# The last two maps start small, at outputs well below the targets. From outputs of the targets' size heavy dropout's
# penalty throws features and head to zero, a saddle that takes longer to leave than training lasts; from a small start
# each direction grows to its closed-form size in turn.
HEAD_SCALE = 0.3
EMBEDDING_SCALE = 0.5

MapDropout = Callable[[int], nn.Module]
"""Makes the module that goes over the feature maps after a stage, given its position from the end (-1 is the last)."""


class ResNet(nn.Module):
    """`features` maps images to the last hidden layer (N, width); `head` is linear on them, (classes, width).

    Args:
        settings: depth and width.
        in_channels: of the images.
        classes: outputs.
        seed: of the initialisation.
        map_dropout: of each stage; None for no dropout anywhere.
    """

    def __init__(
        self, settings: Settings, in_channels: int, classes: int, seed: int, map_dropout: MapDropout | None = None
    ) -> None:
        super().__init__()
        block = Bottleneck if settings.kind == "resnet50" else BasicBlock
        depths = DEPTHS[settings.kind]
        channels = base = round(settings.channels * settings.width_factor)
        # Modules initialise themselves from the global generator: lent for the moment, given back unchanged.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = Conv2dNormActivation(in_channels, base, 3, settings.stem_stride)
            self.stages = nn.ModuleList()
            for stage, depth in enumerate(depths):
                blocks, planes = [], base * 2**stage
                for position in range(depth):
                    stride, outputs, shortcut = 2 if stage and not position else 1, planes * block.expansion, None
                    if stride > 1 or channels != outputs:
                        shortcut = Conv2dNormActivation(channels, outputs, 1, stride, activation_layer=None)
                    blocks.append(block(channels, planes, stride, shortcut))
                    channels = outputs
                self.stages.append(nn.Sequential(*blocks))
            self.embedding = nn.Linear(channels, settings.width, bias=False) if settings.embedding else nn.Identity()
            self.head = nn.Linear(settings.width, classes, bias=settings.head_bias)
            for module, scale in ((self.embedding, EMBEDDING_SCALE), (self.head, HEAD_SCALE)):
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=scale * module.in_features**-0.5)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
            self.map_dropout = nn.ModuleList(
                map_dropout(stage - len(depths)) if map_dropout else nn.Identity() for stage in range(len(depths))
            )

    def features(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N width"]:
        """g(x), the last hidden layer, before its dropout."""
        maps = self.stem(images)
        for stage, dropout in zip(self.stages, self.map_dropout, strict=True):
            maps = dropout(stage(maps))
        return self.embedding(maps.mean((2, 3)))

    def forward(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N width"]:
        """The features: what data-parallel training wraps. The loss applies dropout and `head` itself."""
        return self.features(images)


build = ResNet  # by the name under which a model of any kind is found
