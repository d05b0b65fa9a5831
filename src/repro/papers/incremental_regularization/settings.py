"""What this paper's experiments share of their settings."""

from collections.abc import Mapping
from typing import ClassVar

from repro.dropout.settings import Dropout
from repro.pipeline import settings
from repro.pipeline.settings import Data, Found, Model, Section


class Config(settings.Config):
    """`UNUSED`: groups that an experiment has no use for, and why; who sets one of their keys is told."""

    UNUSED: ClassVar[Mapping[str, str]] = {}

    data: Found[Data]
    model: Found[Model]
    dropout: Dropout

    def ignored(self) -> dict[str, str]:
        found = super().ignored()
        for group, why in self.UNUSED.items():
            part = getattr(self, group)
            assert isinstance(part, Section)
            found |= dict.fromkeys([group, *(f"{group}.{key}" for key in part.model_dump())], why)
        return found


NO_NOISE = "penalties prune, and no unit is dropped at random"
