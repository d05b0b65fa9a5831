"""Settings: what `conf/` holds, what it composes to with a command line, and which of it makes sense."""

from repro.pipeline.composition.conf import options_with
from repro.pipeline.settings.config import Config, Tracking, load
from repro.pipeline.settings.fields import Correlation, Count, OneOrMany, Positive, Probability, Section, Seed, within
from repro.pipeline.settings.groups import Data, Found, Model, Training, find, implementation, ours, unknown

__all__ = [
    "Config", "Correlation", "Count", "Data", "Found", "Model", "OneOrMany", "Positive", "Probability", "Section",
    "Seed", "Tracking", "Training", "find", "implementation", "load", "options_with", "ours", "unknown", "within",
]  # fmt: skip
