"""What this paper's experiments take."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from repro.data.settings import PairSettings, PictureSettings, PointSettings
from repro.dropout.settings import Dropout
from repro.models.structured_output import Settings as Network
from repro.pipeline import settings
from repro.pipeline.settings import Count, Found, OneOrMany, Section
from repro.training.structured_output import Settings as Descent

ARMS = ("plain", "in", "out", "in+out")
PRETRAINED = "pretrained"
CONTROLS = ("shuffled", "noise", "untied", "zero")
BASELINES = ("mean", "ridge", "components")
SHOWN = ("plain", "in+out")
"""Arms whose predictions are drawn, those of the first seed."""
TITLES = {
    "plain": "plain",
    "in": "+in",
    "out": "+out",
    "in+out": "+in+out",
    PRETRAINED: "pre-trained",
    "mean": "mean output",
    "ridge": "ridge",
    "components": "ridge on components",
    "shuffled": "+out, shuffled outputs",
    "noise": "+in, noise for inputs",
    "untied": "+out, untied",
    "zero": "+in+out, weights 0",
}


class Options(Section):
    """`pairs`: how many are trained on, `all` for every one there is; what is left gives inputs and outputs alone.

    `controls`: also trains, at the fewest pairs, on shuffled outputs, on noise in place of inputs, with untied
    auto-encoders, and with both weights 0.
    """

    pairs: OneOrMany[Annotated[int, Field(ge=2)] | Literal["all"]]
    controls: bool


class Config(settings.Config):
    UNUSED: ClassVar[Mapping[str, str]] = {"dropout": "costs of auto-encoders take its place"}

    data: Found[PairSettings]
    model: Found[Network]
    dropout: Dropout
    training: Found[Descent]
    options: Options

    @property
    def networks(self) -> int:
        """At most: with all pairs nothing is left to be known alone."""
        seeds, sizes = len(self.seed), len(self.options.pairs)
        left = sizes - ("all" in self.options.pairs)
        return seeds * (sizes * (len(ARMS) + 1) + left * (len(ARMS) - 1) + self.options.controls * len(CONTROLS))


class PointConfig(Config):
    data: Found[PointSettings]


class PictureConfig(Config):
    data: Found[PictureSettings]


def sizes(wanted: tuple[Count | Literal["all"], ...], there: int) -> list[int]:
    """Numbers of pairs, in order, each once."""
    return sorted({there if size == "all" else size for size in wanted})


def compared(numbers: Sequence[int], there: int) -> int:
    """The number of pairs at which arms are compared: the largest that leaves some of `there` out, if there is one."""
    return max((n for n in numbers if n < there), default=numbers[-1])
