"""A network for the experiments on images: `model=small_net`."""

import torch
from torch import nn

from repro.models.settings import DeepNetwork
from repro.pipeline.settings import Count


class Settings(DeepNetwork):
    hidden: Count


class SmallNet(nn.Module):
    """`features` maps images (N, channels, height, width) to (N, width); `head` is the last layer, which is linear."""

    def __init__(self, settings, channels, classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.AdaptiveAvgPool2d(7),
            nn.Flatten(),
            nn.Linear(49 * channels, settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, settings.width, bias=False),
        )
        self.head = nn.Linear(settings.width, classes, bias=settings.head_bias)

    def features(self, images):
        return self.body(images)

    forward = features


def build(settings, channels, classes, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallNet(settings, channels, classes)
