"""What pruning sees of a network and of its data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from repro.data.images import Images, ImageSet, augmented, held_out_split
from repro.data.settings import ImageSettings
from repro.pruning import Groups, companions, expand, prunable
from repro.training.pruning import Settings
from repro.training.sweep.noise import seeded_generator

CHUNK = 500  # images that are evaluated at a time


@runtime_checkable
class Network(Protocol):
    """A network that has a linear `head` on its `features`."""

    head: nn.Linear

    def features(self, images: Tensor) -> Tensor: ...


class Classifier(nn.Module):
    """A network from images to classes, whatever its own `forward` does."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N classes"]:
        return self.network.head(self.network.features(images))


class Layer(Groups):
    """A convolution that is pruned: its groups, and what goes to 0 with a filter, such as its bias."""

    def __init__(self, network: Classifier, name: str, kind: str, companions: Sequence[str]) -> None:
        super().__init__(network.get_submodule(name), kind)
        self.companions = [network.get_parameter(companion) for companion in companions]

    @torch.no_grad()
    def silence_(self, alive: Bool[Tensor, " groups"], of: Callable[[Tensor], Tensor | None]) -> None:
        """Zeroes what belongs to groups that are not alive in the tensor `of` each parameter, such as its gradient."""
        weight = of(self.layer.weight)
        if weight is not None:
            weight.mul_(expand(alive.to(weight.device), weight, self.kind))
        for parameter in self.companions:
            if (tensor := of(parameter)) is not None:
                tensor.mul_(alive.to(tensor.device))


Names = Mapping[str, Sequence[str]]
"""The convolutions that are pruned, by name, and the names of each one's companions."""


def pruned_layers(network: Classifier, kind: str, example: Tensor) -> Names:
    """Of columns all convolutions, of filters those that can lose some alone."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = {}
    for name in prunable(network, example, kind):
        if isinstance(network.get_submodule(name), nn.Conv2d):
            others = companions(network, example, name) if kind == "filter" else ()
            found[name] = [names[id(tensor)] for tensor in others]
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
        device = self.train.labels.device
        chosen = self.train[_order(len(self.train), f"{stage} {seed} {epoch}", device)[place * size :][:size]]
        generator = seeded_generator(f"{stage} augmentation {seed} {update}", device)
        return self.inputs(augmented(chosen.images, self.crop_padding, self.flip, generator)), chosen.labels

    def inputs(self, pixels: Tensor) -> Tensor:
        found = self.images.normalized(pixels)
        return found.contiguous(memory_format=torch.channels_last) if self.channels_last else found


@lru_cache(maxsize=64)
def _order(count: int, key: str, device: torch.device) -> Tensor:
    return torch.randperm(count, generator=seeded_generator(key)).to(device)


@torch.no_grad()
def accuracy(network: Classifier, data: Data, chosen: ImageSet) -> float:
    """The share of images that the network, in evaluation mode, gets right."""
    mode = network.training
    network.eval()
    pieces = zip(chosen.images.split(CHUNK), chosen.labels.split(CHUNK), strict=True)
    right = sum(int((network(data.inputs(pixels)).argmax(1) == labels).sum()) for pixels, labels in pieces)
    network.train(mode)
    return right / len(chosen)
