"""The original DropBlock of convolutional feature maps, as torchvision has it, at the rate that it is asked for."""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor
from torchvision.ops import drop_block2d

from repro.dropout.distribution import Source
from repro.dropout.layers import Blocks
from repro.dropout.overlapping_dropblock.masks import covering


class OriginalDropBlock2d(Blocks):
    """The original DropBlock (Ghiasi, Lin and Le 2018) through torchvision: b×b squares anywhere, they may overlap.

    torchvision's masks are drawn for each sample and each channel, and divided by the fraction that was kept in the
    whole batch. Its drop probability overlooks overlaps; here it is chosen so that a unit is kept with probability
    `retain` on average over the map, exactly. torchvision draws from PyTorch's global generator: a seed from
    `generator`, where one is set, is lent to it for the call. In data-parallel training each process draws its own
    masks.

    Args:
        block_size: b, odd: torchvision fails on even sizes.
        retain: θ in (0, 1).

    Raises:
        ValueError: an even block size, or `retain` outside (0, 1); at the first call, a map smaller than the block
            or a θ below what blocks that never leave the map can reach.
    """

    TAKES, LEAST, SHOWN = "(..., channels, height, width)", 3, ("block_size", "retain")

    def __init__(self, block_size: int, retain: float) -> None:
        super().__init__(block_size, retain)
        self._twin: tuple[torch.Generator, torch.Generator] | None = None
        if block_size % 2 == 0:
            why = f"got {block_size}; the disjoint one takes any"
            raise ValueError(f"block_size must be odd for torchvision's DropBlock2d, {why}")

    def masked(self, maps: Float[Tensor, "... c h w"], source: Source) -> Float[Tensor, "... c h w"]:
        batch = maps.flatten(0, -4) if maps.ndim > 3 else maps[None]
        drop = _constant(*maps.shape[-2:], self.block_size, self.retain)
        if self.generator is None:
            return drop_block2d(batch, drop, self.block_size, training=True).reshape(maps.shape)
        seed = self._seed(self.generator) + self.shard[0]
        with torch.random.fork_rng(devices=[maps.device] if maps.is_cuda else []):
            torch.manual_seed(seed)
            return drop_block2d(batch, drop, self.block_size, training=True).reshape(maps.shape)

    def _seed(self, generator: torch.Generator) -> int:
        """Drawn on the CPU: of one on a GPU from a twin there, for its numbers would have to be waited for."""
        if generator.device.type != "cpu":
            if self._twin is None or self._twin[0] is not generator:
                self._twin = generator, torch.Generator().manual_seed(generator.initial_seed())
            generator = self._twin[1]
        return int(torch.randint(2**62, (), generator=generator))


@torch.compiler.assume_constant_result  # so that a compiled graph is of one size of maps
def _constant(height: int, width: int, block_size: int, retain: float) -> float:
    return torchvision_drop(height, width, block_size, retain)


def kept_fraction(height: int, width: int, block_size: int, gamma: float) -> float:
    """The mean probability that a unit of a map survives seeds that fall with probability γ on each position.

    A b×b block at each of the (h−b+1)(w−b+1) positions; unit (i, j) is covered by n_i·m_j of them, and is kept with
    probability (1−γ)^(n_i·m_j).
    """
    covers = np.outer(*(covering(side, block_size).sum(1).numpy() for side in (height, width)))
    return float(((1 - gamma) ** covers).mean())


@cache
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
