"""Dropout as torch modules: of features by any distribution of masks, and DropBlock on the last dimension or on maps.

They go where `torch.nn.Dropout` goes, whose p is the probability to drop: `retain` here is θ = 1 − p, that to keep. In
evaluation mode they do nothing; masks come from PyTorch's global generator, or from the attribute `generator` where
one is set (training sets one anew each epoch). They have no parameters and no buffers. Without a generator of their own
`torch.compile(fullgraph=True)` takes them.

In data-parallel training (`shard` = (rank, processes)) every process draws the masks of the whole batch and takes its
share, so that the same batch gets the same masks on any number of processes; for that they need a generator.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from repro.dropout.distribution import MaskDistribution, Source, bernoulli
from repro.theory.checks import check_probability

MaskPer = Literal["sample", "batch"]
Channels = Literal["own", "shared"]


class Masked(nn.Module, ABC):
    """What the modules share: where masks come from, and which share of the batch is this process's."""

    TAKES: ClassVar[str]
    """The shapes that it takes, in words."""
    LEAST: ClassVar[int]
    """How many dimensions they have at least."""
    SHOWN: ClassVar[tuple[str, ...]]
    """The arguments that `print` shows."""

    def __init__(self, mask_per: MaskPer = "sample") -> None:
        super().__init__()
        check_word("mask_per", mask_per, get_args(MaskPer))
        self.generator: Generator | None = None
        self.shard = (0, 1)
        self.mask_per = mask_per

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            return values
        if values.ndim < self.LEAST or not values.is_floating_point():
            raise ValueError(f"{self} takes floats of shape {self.TAKES}, got {values.dtype} {tuple(values.shape)}")
        with torch.autocast(values.device.type, enabled=False):
            return self.masked(values, self.generator or _global_source(values.device))

    @abstractmethod
    def masked(self, values: Tensor, source: Source) -> Tensor:
        """What training makes of `values`, with masks from `source`."""

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.SHOWN)

    def _share(self, samples: int, draw: Callable[[int], Tensor]) -> Tensor:
        """Masks from `draw`, which takes their number: one for all samples, or those of this process's `samples`."""
        if self.mask_per == "batch":
            return draw(1)
        rank, processes = self.shard
        return draw(samples * processes)[rank * samples :][:samples]


class FeatureDropout(Masked):
    """g · z/E[z] for features g (..., d) and masks z of any distribution on d units.

    Args:
        masks: the distribution, such as `DropBlock(width, block_size, retain)`.
        mask_per: `sample` draws one mask for each vector of features, `batch` one for all of them. Both have the same
            expected squared error; `batch` is the paper's, `sample` that of library layers.

    Raises:
        TypeError: `masks` is no distribution.
        ValueError: its masks are not on the units, or at the first call, features of another width.
    """

    TAKES, LEAST, SHOWN = "(..., width)", 1, ("masks", "mask_per")

    def __init__(self, masks: MaskDistribution, mask_per: MaskPer = "sample") -> None:
        super().__init__(mask_per)
        if not isinstance(masks, MaskDistribution):
            raise TypeError(f"masks must be a distribution, as in DropBlock(width, block_size, retain), got {masks!r}")
        if masks.target != "hidden":
            raise ValueError(f"masks must be of the units, got {masks!r}, of {masks.target}")
        self.masks = masks
        masks.sample_normalized(1, Generator(), torch.float32)  # works out what it keeps, outside of any graph

    def masked(self, features: Float[Tensor, "... d"], source: Source) -> Float[Tensor, "... d"]:
        *leading, width = features.shape
        if width != self.masks.width:
            raise ValueError(f"{self} takes features of width {self.masks.width}, got shape {tuple(features.shape)}")
        exact = features.dtype if features.dtype == torch.float64 else torch.float32
        drawn = self._share(
            features[..., 0].numel(), lambda count: self.masks.sample_normalized(count, source, exact)
        ).to(features.dtype)
        return features * (drawn.reshape(*leading, width) if self.mask_per == "sample" else drawn[0])


class Blocks(Masked):
    """What the DropBlock modules share: blocks of side `block_size`, and θ.

    Raises:
        ValueError: a block size below 1, or `retain` outside (0, 1).
    """

    SHOWN: ClassVar[tuple[str, ...]] = ("block_size", "retain", "mask_per")

    def __init__(self, block_size: int, retain: float, mask_per: MaskPer = "sample") -> None:
        super().__init__(mask_per)
        check_probability("retain", retain)
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        self.block_size, self.retain = block_size, retain


class DropBlock1d(Blocks):
    """Disjoint DropBlock of the last dimension: runs of r entries, each kept with probability θ and divided by θ.

    Shapes (..., d), as features (N, d), tokens (N, T, d) or signals (N, c, L): each vector has its own masks. The
    last block is cut where r does not divide d; where it does, this is `FeatureDropout(DropBlock(d, r, retain))`.

    Args:
        block_size: r.
        retain: θ in (0, 1).
        mask_per: `sample` draws masks for each vector, `batch` the same for all of them.
    """

    TAKES, LEAST = "(..., width)", 1

    def masked(self, values: Float[Tensor, "... d"], source: Source) -> Float[Tensor, "... d"]:
        *leading, width = values.shape
        shape = (-(-width // self.block_size),)
        kept = self._share(
            values[..., 0].numel(), lambda count: bernoulli((count, *shape), self.retain, source, values.dtype)
        )
        mask = (kept / self.retain).repeat_interleave(self.block_size, -1)[:, :width]
        return values * (mask.reshape(*leading, width) if self.mask_per == "sample" else mask[0])


class DropBlock2d(Blocks):
    """Disjoint 2-D DropBlock: feature maps in a grid of b×b squares, each kept with probability θ and divided by θ.

    Maps (N, c, h, w), one of them (c, h, w), or more leading dimensions, in any memory format. Squares at the lower and
    right edge are cut where b does not divide the map, so any block size and any map work. Dividing by θ = E[z], not by
    the fraction kept, is what the deterministic objective assumes.

    Args:
        block_size: b.
        retain: θ in (0, 1).
        channels: `own` masks for each channel, or one mask `shared` by all of them.
        mask_per: `sample` draws masks for each sample, `batch` the same for all of them.
    """

    TAKES, LEAST, SHOWN = "(..., channels, height, width)", 3, ("block_size", "retain", "channels", "mask_per")

    def __init__(
        self, block_size: int, retain: float, channels: Channels = "own", mask_per: MaskPer = "sample"
    ) -> None:
        super().__init__(block_size, retain, mask_per)
        check_word("channels", channels, get_args(Channels))
        self.channels = channels

    def masked(self, maps: Float[Tensor, "... c h w"], source: Source) -> Float[Tensor, "... c h w"]:
        batch = maps.flatten(0, -4) if maps.ndim > 3 else maps[None]
        samples, channels, height, width = batch.shape
        b = self.block_size
        shape = (channels if self.channels == "own" else 1, -(-height // b), -(-width // b))
        kept = self._share(samples, lambda count: bernoulli((count, *shape), self.retain, source, maps.dtype))
        return _times_squares(batch, kept / self.retain, b).reshape(maps.shape)


def _times_squares(maps: Tensor, mask: Tensor, b: int) -> Tensor:
    """`maps` times `mask` with each of its values spread over a b×b square, cut to the maps' size.

    The map-sized mask is never written where b divides the map: the product broadcasts over the squares, along the
    axes over which the innermost loop is long in the maps' memory format. Four times as fast as writing it.
    """
    height, width = maps.shape[2:]
    if maps.is_contiguous(memory_format=torch.channels_last) and not (height % b or width % b):
        squares = maps.unflatten(2, (-1, b)).unflatten(4, (-1, b))
        return (squares * mask[:, :, :, None, :, None]).flatten(4, 5).flatten(2, 3)
    rows = mask.repeat_interleave(b, 3)[..., :width]
    if height % b:
        return maps * rows.repeat_interleave(b, 2)[:, :, :height]
    return (maps.unflatten(2, (-1, b)) * rows[:, :, :, None]).flatten(2, 3)


def _global_source(device: torch.device) -> Source:
    """PyTorch's global generator of a device; the device itself in a graph that is compiled, and where it has none."""
    if torch.compiler.is_compiling() or device.type not in ("cpu", "cuda"):
        return device
    return torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator


def check_word(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
