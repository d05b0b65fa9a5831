"""Settings: what `conf/` holds, what it composes to with a command line, and which of it makes sense."""

from importlib import import_module

from repro.pipeline.composition.files import options_with
from repro.pipeline.settings.config import Config, Tracking
from repro.pipeline.settings.fields import Correlation, Count, OneOrMany, Positive, Probability, Section, Seed, within
from repro.pipeline.settings.groups import Data, Found, Model, Training, bound, find, implementation, ours, unknown

__all__ = [
    "Config", "Correlation", "Count", "Data", "Found", "Model", "OneOrMany", "Positive", "Probability", "Section",
    "Seed", "Tracking", "Training", "bound", "find", "implementation", "load", "options_with", "ours", "unknown",
    "within",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """`load`, when it is asked for: it composes by Hydra, without which the other names serve as a library."""
    if name != "load":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return import_module(f"{__name__}.loading").load
