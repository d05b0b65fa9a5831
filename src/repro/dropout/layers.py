"""Thin modules over the mask distributions: dropout of last-layer features and of convolutional feature maps.

All draw from their attribute `generator`, which training sets anew each epoch, and none in evaluation mode. In
data-parallel training (`shard` = (rank, processes)) every process draws the masks of the whole batch and takes its
share, so that the same batch gets the same masks on any number of processes.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Generator, Tensor, nn

from repro.dropout.masks import MaskDistribution
from repro.theory.checks import check_probability


class Masked(nn.Module):
    """What the modules share: a generator, and which share of the batch is theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.generator: Generator | None = None
        self.shard = (0, 1)

    def _generator(self) -> Generator:
        if self.generator is None:
            raise RuntimeError(f"{type(self).__name__} has no generator; set .generator before training")
        return self.generator


class FeatureDropout(Masked):
    """g · z/E[z] for features g (N, d) and masks z of any distribution on d units.

    Args:
        masks: the distribution.
        mask_per: `sample` draws one mask for each sample, `batch` one for all of them. Both have the same
            expected squared error; `batch` is the paper's, `sample` that of library layers.
    """

    def __init__(self, masks: MaskDistribution, mask_per: Literal["sample", "batch"] = "sample") -> None:
        super().__init__()
        self.masks, self.mask_per = masks, mask_per

    def forward(self, features: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        if not self.training:
            return features
        rank, processes = self.shard
        count = len(features) * processes if self.mask_per == "sample" else 1
        masks = self.masks.sample_normalized(count, self._generator(), features.dtype)
        if self.mask_per == "sample":
            masks = masks[rank * len(features) :][: len(features)]
        return features * masks


class DisjointDropBlock2d(Masked):
    """Disjoint 2-D DropBlock: feature maps in a grid of b×b squares, each kept with probability θ and divided by θ.

    Squares at the lower and right edge are cut where b does not divide the map, so any block size and any map work.
    Dividing by θ = E[z], not by the fraction kept, is what the deterministic objective assumes.

    Args:
        block_size: b.
        retain: θ in (0, 1).
        channels: `own` masks for each channel, or one mask `shared` by all of them.
        mask_per: `sample` draws masks for each sample, `batch` the same for all of them.

    Raises:
        ValueError: a block size below 1, or `retain` outside (0, 1).
    """

    def __init__(
        self,
        block_size: int,
        retain: float,
        channels: Literal["own", "shared"] = "own",
        mask_per: Literal["sample", "batch"] = "sample",
    ) -> None:
        super().__init__()
        check_probability("retain", retain)
        _check_block(block_size)
        self.block_size, self.retain, self.channels, self.mask_per = block_size, retain, channels, mask_per

    def forward(self, maps: Float[Tensor, "N c h w"]) -> Float[Tensor, "N c h w"]:
        if not self.training:
            return maps
        count, channels, height, width = maps.shape
        b, generator = self.block_size, self._generator()
        rank, processes = self.shard
        shape = (
            count * processes if self.mask_per == "sample" else 1,
            channels if self.channels == "own" else 1,
            -(-height // b),
            -(-width // b),
        )
        kept = torch.rand(shape, generator=generator, device=generator.device) < self.retain
        if self.mask_per == "sample":
            kept = kept[rank * count :][:count]
        return _times_squares(maps, kept.to(maps.dtype) / self.retain, b)


class OriginalDropBlock2d(Masked):
    """The original DropBlock (Ghiasi, Lin and Le 2018) through torchvision: b×b squares anywhere, they may overlap.

    torchvision's masks are drawn for each sample and each channel, and divided by the fraction that was kept in the
    whole batch. Its drop probability overlooks overlaps; here it is chosen so that a unit is kept with probability
    `retain` on average over the map, exactly. torchvision draws from PyTorch's global generator: a seed from
    `generator` is lent to it for the call. In data-parallel training each process draws its own masks.

    Args:
        block_size: b, odd: torchvision fails on even sizes.
        retain: θ in (0, 1).

    Raises:
        ValueError: an even block size, or `retain` outside (0, 1); at the first call, a map smaller than the block
            or a θ below what blocks that never leave the map can reach.
    """

    def __init__(self, block_size: int, retain: float) -> None:
        super().__init__()
        check_probability("retain", retain)
        _check_block(block_size)
        if block_size % 2 == 0:
            raise ValueError(
                f"block_size must be odd for torchvision's DropBlock2d, got {block_size}; the disjoint one takes any"
            )
        self.block_size, self.retain = block_size, retain
        self._drop: dict[tuple[int, int], float] = {}

    def forward(self, maps: Float[Tensor, "N c h w"]) -> Float[Tensor, "N c h w"]:
        if not self.training:
            return maps
        from torchvision.ops import drop_block2d

        height, width = maps.shape[2:]
        if (height, width) not in self._drop:
            self._drop[height, width] = torchvision_drop(height, width, self.block_size, self.retain)
        generator = self._generator()
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device)) + self.shard[0]
        devices = [maps.device] if maps.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            return drop_block2d(maps, self._drop[height, width], self.block_size, training=True)


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


def kept_fraction(height: int, width: int, block_size: int, gamma: float) -> float:
    """The mean probability that a unit of a map survives seeds that fall with probability γ on each position.

    A b×b block at each of the (h−b+1)(w−b+1) positions; unit (i, j) is covered by n_i·m_j of them, and is kept with
    probability (1−γ)^(n_i·m_j).
    """
    covers = np.outer(_covers(height, block_size), _covers(width, block_size))
    return float(((1 - gamma) ** covers).mean())


def torchvision_drop(height: int, width: int, block_size: int, retain: float) -> float:
    """The `p` with which torchvision's `drop_block2d` keeps units with mean probability θ = `retain`.

    Its γ is p·h·w / (b²(h−b+1)(w−b+1)).

    Raises:
        ValueError: a map smaller than the block, or no p in [0, 1] that gives `retain`.
    """
    if block_size > min(height, width):
        raise ValueError(f"block_size must be at most {min(height, width)}, the side of the map, got {block_size}")
    ratio = height * width / (block_size**2 * (height - block_size + 1) * (width - block_size + 1))
    most = min(1.0, 1 / ratio)
    if (least := kept_fraction(height, width, block_size, most * ratio)) > retain:
        raise ValueError(
            f"retain must be at least {least:.3g} for {block_size}×{block_size} blocks on a {height}×{width} map with "
            f"torchvision's DropBlock2d, got {retain}"
        )
    return float(brentq(lambda p: kept_fraction(height, width, block_size, p * ratio) - retain, 0.0, most))


def _covers(side: int, block_size: int) -> np.ndarray:
    """How many of the block's positions along one axis cover each unit."""
    offset = np.arange(side)[:, None] - np.arange(side - block_size + 1)
    return ((offset >= 0) & (offset < block_size)).sum(1)


def _check_block(block_size: int) -> None:
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
