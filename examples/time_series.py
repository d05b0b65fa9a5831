"""Data for the linear experiments: `data=time_series`."""

import math

import torch

from repro.data.settings import LinearSettings
from repro.pipeline.settings import Count, Positive, Seed


class Settings(LinearSettings):
    samples: Count
    past: Count
    future: Count
    noise: Positive
    seed: Seed


def load(settings):
    """X (past, samples) and Y (future, samples): a window of the series in each column."""
    generator = torch.Generator().manual_seed(settings.seed)
    length = settings.past + settings.future
    time = torch.arange(settings.samples + length, dtype=torch.float64)
    periods = torch.tensor([5.0, 8.0, 13.0, 40.0])
    series = (2 * math.pi * time[:, None] / periods).sin().sum(1)
    series += settings.noise * torch.randn(len(time), generator=generator, dtype=torch.float64)
    windows = series.unfold(0, length, 1)[: settings.samples].T
    return windows[: settings.past], windows[settings.past :]
