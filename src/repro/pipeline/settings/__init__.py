"""Settings: what `conf/` holds, what it composes to with a command line, and which of it makes sense."""

from repro.pipeline.composition.conf import options_with
from repro.pipeline.settings.config import Config, Tracking, load
from repro.pipeline.settings.groups import (
    Correlation,
    Count,
    Data,
    Found,
    Model,
    OneOrMany,
    Positive,
    Probability,
    Section,
    Seed,
    Training,
    find,
    implementation,
    ours,
    unknown,
    within,
)  # fmt: skip

__all__ = [
    "Config", "Correlation", "Count", "Data", "Found", "Model", "OneOrMany", "Positive", "Probability", "Section",
    "Seed", "Tracking", "Training", "find", "implementation", "load", "options_with", "ours", "unknown", "within",
]  # fmt: skip
