"""Batch normalisation over the whole batch of data-parallel training, on any device.

PyTorch's own `SyncBatchNorm` is for GPUs only; without one on the CPU, two processes would normalise over half a
batch each and could not follow one process.
"""

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed import get_world_size
from torch.distributed.nn.functional import all_reduce

Network = TypeVar("Network", bound=nn.Module)


def synchronized(network: Network, processes: int, device: str) -> Network:
    """`network` with its BatchNorm2d layers over all processes; itself where there is one process."""
    if processes == 1:
        return network
    if device == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d
    return network


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose mean and variance are those of the batches of all processes, of equal size, together."""

    def forward(self, maps: Float[Tensor, "N c h w"]) -> Float[Tensor, "N c h w"]:
        if not self.training:
            return super().forward(maps)
        processes = get_world_size()
        mean = all_reduce(maps.mean((0, 2, 3))) / processes
        centred = maps - mean[:, None, None]
        variance = all_reduce(centred.square().mean((0, 2, 3))) / processes
        with torch.no_grad():
            assert self.momentum is not None
            count = maps.numel() // maps.shape[1] * processes
            self.get_buffer("running_mean").lerp_(mean, self.momentum)
            self.get_buffer("running_var").lerp_(variance * count / (count - 1), self.momentum)
            self.get_buffer("num_batches_tracked").add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]
