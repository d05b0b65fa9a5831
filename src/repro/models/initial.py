"""How the weights of plain networks begin."""

from math import sqrt

import torch
from torch import nn


def drawn(network: nn.Module, seed: int) -> None:
    """Fills weights of convolutions and linear layers with uniform numbers of variance 1/inputs, as Caffe's examples
    do, from a generator of their own, and sets biases to 0."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = sqrt(3 / module.weight[0].numel())
            with torch.no_grad():
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
