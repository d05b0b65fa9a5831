"""What pruning sees of a network and of its data."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from repro.data.images import Images, ImageSet, augmented, held_out_split
from repro.data.settings import ImageSettings
from repro.pruning import Groups
from repro.pruning.groups import Kind
from repro.training.pruning import Settings
from repro.training.sweep.noise import seeded_generator

CHUNK = 500  # images that are evaluated at a time


@runtime_checkable
class Network(Protocol):
    """Any network that has a linear `head` on its `features`."""

    head: nn.Linear

    def features(self, images: Tensor) -> Tensor: ...


class Classifier(nn.Module):
    """A network from images to classes, whatever its own `forward` does."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N classes"]:
        return self.network.head(self.network.features(images))


def pruned_layers(network: nn.Module, kind: Kind) -> dict[str, Groups]:
    """The convolutions that are pruned, by name, in order: of columns all, of filters those whose outputs are not added
    to a shortcut's."""
    added = set()
    for module in network.modules() if kind == "filter" else ():
        if isinstance(module, BasicBlock | Bottleneck):
            last = module.conv3 if isinstance(module, Bottleneck) else module.conv2
            shortcut = module.downsample.modules() if module.downsample is not None else ()
            added |= {last, *shortcut}
    residual = bool(added)
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module not in added and not (residual and "stem" in name):
            found[name] = Groups(module, kind)
    return found


@dataclass(frozen=True)
class Data:
    """Training, validation and test images on the training device, and how batches are drawn of the first."""

    images: Images
    train: ImageSet
    validation: ImageSet
    crop_padding: int
    flip: bool
    channels_last: bool

    @classmethod
    def of(cls, images: Images, settings: ImageSettings, training: Settings, device: str) -> "Data":
        generator = seeded_generator(f"validation {settings.seed}")
        train, validation = held_out_split(images.train, training.validation, generator)
        placed = images.to(device)
        augmentation = settings.crop_padding, settings.flip
        return cls(placed, train.to(device), validation.to(device), *augmentation, training.channels_last)

    def batch(self, stage: str, seed: int, update: int, size: int) -> tuple[Tensor, Tensor]:
        """The batch that every network of a seed sees at an update of a stage; the rest of a permutation sits it
        out."""
        epoch, place = divmod(update, len(self.train) // size)
        rows = _order(len(self.train), f"{stage} {seed} {epoch}")[place * size :][:size]
        chosen = self.train[rows.to(self.train.labels.device)]
        generator = seeded_generator(f"{stage} augmentation {seed} {update}", chosen.images.device)
        return self.inputs(augmented(chosen.images, self.crop_padding, self.flip, generator)), chosen.labels

    def inputs(self, pixels: Tensor) -> Tensor:
        found = self.images.normalized(pixels)
        return found.contiguous(memory_format=torch.channels_last) if self.channels_last else found


@lru_cache(maxsize=64)
def _order(count: int, key: str) -> Tensor:
    return torch.randperm(count, generator=seeded_generator(key))


@torch.no_grad()
def accuracy(network: Classifier, data: Data, chosen: ImageSet) -> float:
    """The share of images that the network, in evaluation mode, gets right."""
    mode = network.training
    network.eval()
    pieces = zip(chosen.images.split(CHUNK), chosen.labels.split(CHUNK), strict=True)
    right = sum(int((network(data.inputs(pixels)).argmax(1) == labels).sum()) for pixels, labels in pieces)
    network.train(mode)
    return right / len(chosen)
