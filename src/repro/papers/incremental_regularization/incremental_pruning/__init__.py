"""Which way to prune a convolutional network costs the least accuracy at the same speed-up?

One baseline network a seed, pruned by every method of the family in the same number of updates over the same batches:
groups removed at once, under constant penalties, under penalties that grow. Accuracy against the speed-up in
multiply-accumulates of the networks that are cut for real; what accuracy is lost at the moment of removal, against the
gentleness E; and pruning down to a floor of the accuracy.

Multiply-accumulates are not seconds, which are the machine's and stand in no record (`benchmarks/pruning.py`): at
5 times fewer on a CPU the ConvNet with filters cut runs 3.4 times as fast as the whole one, masked 1.1 times, and with
columns gathered a quarter as fast, because its maps are written out once for every place of the kernel first.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from repro.data.settings import ImageSettings
from repro.models.convolutional import Convolutional
from repro.models.resnet import NARROWEST
from repro.models.settings import DeepNetwork
from repro.papers.incremental_regularization import settings
from repro.papers.incremental_regularization.incremental_pruning.claims import CLAIMS as CLAIMS
from repro.pipeline.composition.wording import shown
from repro.pipeline.settings import Count, Found, OneOrMany, Positive, Probability, Section
from repro.pipeline.settings.groups import options_of, ours
from repro.training.pruning import Settings as Pruning

CONTROLS = ("random", "largest")
Item = TypeVar("Item")
Name = Literal["one_shot", "afp", "group_lasso", "greg_1", "greg_2", "inc_reg"]
Control = Literal["random", "largest"]
Several = Annotated[
    tuple[Item, ...], Field(strict=False), BeforeValidator(lambda v: v if isinstance(v, list | tuple) else [v])
]
"""None, one or many."""


class Floor(Section):
    """Pruning to a floor: baseline accuracy on the validation images less `margin`. Ratios rise in steps
    clip(10·(accuracy − floor), 0.01, 0.2), `updates` each, half of them under penalties; the first network below the
    floor is rolled back, and ends it, or so many `rounds` do."""

    margin: Probability
    updates: Annotated[int, Field(ge=2)]
    rounds: Count


class Options(Section):
    """`methods`: what is trained at each of the `ratios` R of groups that are removed from every layer.

    `reference`: the ratio at which the `controls` are trained, and IncReg at other `gentleness` E than training's.
    `probe`: test images on which each removal is measured, the next ones each time. `floor`: null for none.
    """

    methods: OneOrMany[Name]
    ratios: OneOrMany[Probability]
    reference: Probability
    controls: Several[Control]
    gentleness: Several[Positive]
    probe: Count
    floor: Floor | None

    @model_validator(mode="after")
    def _reference_is_trained(self) -> "Options":
        if self.reference not in self.ratios:
            allowed = f"must be one of options.ratios={shown(list(self.ratios))}"
            raise ValueError(f"options.reference={shown(self.reference)}: {allowed}")
        return self


class Config(settings.Config):
    UNUSED: ClassVar[Mapping[str, str]] = {"dropout": settings.NO_NOISE}

    data: Found[ImageSettings]
    training: Found[Pruning]
    options: Options

    @model_validator(mode="after")
    def _wide_enough(self) -> "Config":
        channels = self.model.channels if isinstance(self.model, Convolutional) else (NARROWEST,)
        if min(channels) < NARROWEST and self.training.channels_last:
            allowed = f"must be at least {NARROWEST} each, or training.channels_last=false"
            raise ValueError(f"model.channels={shown(list(channels))}: {allowed}")
        return self

    @model_validator(mode="after")
    def _has_convolutions(self) -> "Config":
        kinds = [name for name, kind in ours("model").items() if issubclass(kind, Convolutional | DeepNetwork)]
        if self.model.kind in ours("model") and self.model.kind not in kinds:
            raise ValueError(f"model.kind={self.model.kind}: {self.name} takes {options_of('model', 'kind', kinds)}")
        return self

    def ignored(self) -> dict[str, str]:
        unused = {"data.targets": "what is minimised is the cross-entropy"}
        for key, method in (("lasso", "group_lasso"), ("afp", "afp")):
            if method not in self.options.methods:
                unused[f"training.{key}"] = f"{method} is not among options.methods"
        return super().ignored() | unused

    @property
    def networks(self) -> int:
        options = self.options
        gentle = [e for e in options.gentleness if e != self.training.gentleness]
        each = 1 + len(options.methods) * len(options.ratios) + len(options.controls) + len(gentle)
        return len(self.seed) * (each + (options.floor is not None))


CAPTIONS = {
    "tradeoff": "Test accuracy against the speed-up in multiply-accumulates of the convolutions of the cut network: "
    "mean over seeds and its 95 % interval. The line is the baseline network.",
    "differences": "Test accuracy less that of one-shot removal on the same baseline network: mean over seeds and its "
    "95 % interval, against the ratio of groups removed.",
    "removal": "What is lost at the moments at which IncReg removes groups, summed over all of them, against the "
    "gentleness E: accuracy (left) and cross-entropy (right), one mark a seed. Dashed: one-shot removal.",
    "layers": "Of each layer the multiply-accumulates (left) and the share of groups that is left (right). Lines: "
    "1 − ⌈R n⌉/n; marks: every network.",
    "floor": "Accuracy on validation images along the rounds of pruning to a floor (line), and the ratio of groups "
    "removed: filled marks were kept, open ones rolled back.",
}
"""What to look for in each figure."""
