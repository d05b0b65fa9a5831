"""What a run may be asked for: the configuration's types, ranges and combinations.

`conf/` holds the values, this file says which of them make sense. `validated` turns a composed
configuration into a `Config` or raises a `UserError` of one line before anything has run. Everything is
frozen, and what may be one value or a list of them arrives as a tuple.

A new kind of data, model or training is a class with its own `kind`, added to the union of its group.
"""

import difflib
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from repro.errors import UserError

Item = TypeVar("Item")


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _unlike(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if twice := next((value for i, value in enumerate(values) if value in values[:i]), None):
        raise ValueError(f"names {twice} twice; every value may stand there once")
    return values


def _within(allowed: str, holds: Callable[[float], bool]) -> AfterValidator:
    """A range named whole, where pydantic would name only the end that is crossed."""

    def check(value: float) -> float:
        if not holds(value):
            raise ValueError(f"must lie {allowed}")
        return value

    return AfterValidator(check)


OneOrMany = Annotated[
    tuple[Item, ...],
    Field(min_length=1, strict=False),
    BeforeValidator(_listed),
    AfterValidator(_unlike),
]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Probability = Annotated[float, _within("in (0, 1)", lambda value: 0 < value < 1)]


class Section(BaseModel):
    """Base of every part: no unknown keys, no silent conversion ("3" is not 3), no change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SyntheticData(Section):
    """X (in_features x samples) normal, Y = U₀V₀ᵀX + noise with U₀V₀ᵀ of the given rank.

    `correlation` is that of neighbouring features: Cov[x_i, x_j] = correlation^|i−j|.
    """

    kind: Literal["synthetic"]
    in_features: Count
    out_features: Count
    samples: Count
    rank: Count
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    correlation: Annotated[float, _within("in (-1, 1)", lambda value: -1 < value < 1)]
    whiten: bool
    seed: Seed

    @model_validator(mode="after")
    def _rank_fits(self) -> "SyntheticData":
        limit = min(self.in_features, self.out_features)
        if self.rank > limit:
            raise ValueError(
                f"data.rank={self.rank}: must be at most {limit}, the smaller of in_features and out_features"
            )
        return self


class DigitHalves(Section):
    """MNIST: the upper half of a digit (392 pixels) as X, the lower half as Y, both centred."""

    kind: Literal["digit_halves"]
    source: Literal["mnist5k", "mnist"]
    root: str | None
    whiten: bool


ImageSource = Literal["mnist5k", "mnist", "fashion_mnist", "cifar10", "cifar100", "parquet", "image_folder"]


class ImageData(Section):
    """Labelled images. `imbalance` is ρ = largest / smallest class, a long tail in between; 1 leaves classes alone.

    `held_out` is the fraction of each class that is tested on, for sources that bring no test split of their own.
    """

    kind: ImageSource
    root: str | None
    download: bool
    subset: Count | None
    imbalance: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    targets: Literal["one_hot", "centred"]
    held_out: Probability
    crop_padding: Annotated[int, Field(ge=0)]
    flip: bool
    image_size: Count | None
    seed: Seed

    @model_validator(mode="after")
    def _root_is_there(self) -> "ImageData":
        if self.kind in ("parquet", "image_folder") and self.root is None:
            raise ValueError(f"data.root=null: data={self.kind} needs the folder of the images")
        if self.image_size is not None and self.kind != "image_folder":
            raise ValueError(f"data.image_size={self.image_size}: only data=image_folder resizes its images")
        return self


class LinearModel(Section):
    """Ŷ = U Vᵀ X with U (out_features x width) and V (in_features x width)."""

    kind: Literal["linear"]
    width: Count
    init_scale: Positive


# Backward through channels-last convolutions of fewer channels corrupts memory on CPUs (PyTorch 2.11, oneDNN).
NARROWEST = 8


class ResNetModel(Section):
    """A residual network whose last hidden layer has `width` units and whose last layer is linear without bias.

    `channels` are those of the first stage at `width_factor` 1. With `embedding` a linear map takes the pooled
    channels to `width` units; without one the pooled channels, which are not negative, are the last hidden layer.
    """

    kind: Literal["resnet8", "resnet20", "resnet56", "resnet110", "resnet18", "resnet50"]
    width: Count
    embedding: bool
    channels: Count
    width_factor: Positive
    stem_stride: Literal[1, 2]

    @model_validator(mode="after")
    def _pooled_channels_are_the_width(self) -> "ResNetModel":
        first = round(self.channels * self.width_factor)
        if first < NARROWEST:
            raise ValueError(f"model.width_factor={self.width_factor}: leaves {first} channels, must leave {NARROWEST}")
        growth = {"resnet18": 8, "resnet50": 32}.get(self.kind, 4)
        pooled = first * growth
        if not self.embedding and self.width != pooled:
            raise ValueError(
                f"model.width={self.width}: must be {pooled}, the channels of the last stage; "
                "model.embedding=true allows any width"
            )
        return self


Scheme = Literal["bernoulli", "dropblock", "overlapping_dropblock", "dropconnect_U", "dropconnect_V", "gaussian"]


class Dropout(Section):
    """A grid over schemes, block sizes and one of the two probabilities.

    `p` is the retain probability that one block alone would have; θ = p / (p + (width / block_size)(1 − p))
    follows from it. `retain` is θ itself.
    """

    scheme: OneOrMany[Scheme]
    block_size: OneOrMany[Count]
    p: OneOrMany[Probability] | None
    retain: OneOrMany[Probability] | None
    correlation: Annotated[float, _within("in (-1, 1)", lambda value: -1 < value < 1)]

    @field_validator("p", "retain", mode="before")
    @classmethod
    def _listed_or_absent(cls, value: Any) -> Any:
        return value if value is None else _listed(value)

    @model_validator(mode="after")
    def _one_probability(self) -> "Dropout":
        if self.p is not None and self.retain is not None:
            raise ValueError("p and retain are both given; set one of them to null, as in dropout.p=null")
        if self.p is None and self.retain is None:
            raise ValueError("neither p nor retain is given; set one of them to a number in (0, 1)")
        return self


class SweepTraining(Section):
    """SGD with momentum on all cells of a grid at once."""

    kind: Literal["sweep"]
    steps: Count
    masks_per_step: Count
    learning_rate: Positive
    momentum: Annotated[float, _within("in [0, 1)", lambda value: 0 <= value < 1)]
    warmup: Annotated[float, _within("in [0, 1]", lambda value: 0 <= value <= 1)]
    schedule: Literal["cosine", "constant"]
    dtype: Literal["float32", "float64"]
    log_points: Annotated[int, Field(ge=2)]


class NetworkTraining(Section):
    """SGD with Nesterov momentum on mini-batches, linear warm-up and cosine decay to zero.

    `mask_per: batch` drops the same last-layer units in all samples of a batch, averaged over `masks_per_step`
    draws; `sample` draws one mask for each sample, as libraries do.
    """

    kind: Literal["network"]
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    momentum: Annotated[float, _within("in [0, 1)", lambda value: 0 <= value < 1)]
    warmup: Annotated[float, _within("in [0, 1]", lambda value: 0 <= value <= 1)]
    clip_norm: Positive | None
    loss: Literal["squared_error", "cross_entropy"]
    mask_per: Literal["batch", "sample"]
    masks_per_step: Count
    precision: Literal["float32", "bf16"]
    channels_last: bool
    compile: bool
    devices: Count
    # Left out of records where it is 1: those made before it existed keep their fingerprints.
    nodes: Annotated[int, Field(ge=1, exclude_if=lambda nodes: nodes == 1)] = 1
    processes: Count | None

    @model_validator(mode="after")
    def _combinations(self) -> "NetworkTraining":
        if self.masks_per_step > 1 and (self.mask_per != "batch" or self.loss != "squared_error"):
            raise ValueError(
                f"training.masks_per_step={self.masks_per_step}: averages over masks only with mask_per=batch and "
                "loss=squared_error; allowed: 1"
            )
        if self.batch_size % (self.devices * self.nodes):
            all_of_them = f"training.devices={self.devices}" + (f" times nodes={self.nodes}" if self.nodes > 1 else "")
            raise ValueError(f"training.batch_size={self.batch_size}: must be a multiple of {all_of_them}")
        return self


class Tracking(Section):
    """Weights & Biases."""

    mode: Literal["offline", "online", "disabled"]
    project: Annotated[str, Field(min_length=1)]
    entity: str | None


Data = Annotated[SyntheticData | DigitHalves | ImageData, Field(discriminator="kind")]
Model = Annotated[LinearModel | ResNetModel, Field(discriminator="kind")]
Training = Annotated[SweepTraining | NetworkTraining, Field(discriminator="kind")]


class Config(Section):
    """One run, complete and checked."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    module: str
    title: str
    paper: Annotated[str, Field(min_length=1)]
    scale: Literal["smoke", "cpu", "gpu"]
    seed: OneOrMany[Seed]
    device: Literal["cpu", "cuda"]
    threads: Count | None
    force: bool
    estimate: bool
    results: Annotated[str, Field(min_length=1)]
    data: Data
    model: Model
    dropout: Dropout
    training: Training
    options: Any  # validated by the experiment module's own Options
    tracking: Tracking

    @model_validator(mode="after")
    def _blocks_fill_the_width(self) -> "Config":
        width = self.model.width
        for block_size in self.dropout.block_size:
            if "dropblock" in self.dropout.scheme and width % block_size:
                divisors = ", ".join(str(r) for r in range(1, width + 1) if width % r == 0)
                raise ValueError(
                    f"dropout.block_size={block_size}: must divide model.width={width}; allowed: {divisors}"
                )
            if block_size > width:
                raise ValueError(f"dropout.block_size={block_size}: must be at most model.width={width}")
        return self

    def plain(self) -> dict[str, Any]:
        """The configuration as dicts, lists, strings and numbers: what is recorded and fingerprinted."""
        return self.model_dump(mode="json")


class LinearConfig(Config):
    """What the experiments on linear networks take."""

    data: Annotated[SyntheticData | DigitHalves, Field(discriminator="kind")]
    model: LinearModel
    training: SweepTraining


class DeepConfig(Config):
    """What the experiments on residual networks take."""

    data: ImageData
    model: ResNetModel
    training: NetworkTraining


def processes(config: Config) -> int:
    """The processes of one data-parallel training."""
    training = config.training
    return training.devices * training.nodes if isinstance(training, NetworkTraining) else 1


def experiment_module(name: str) -> ModuleType:
    """The module of an experiment: a name in `repro.experiments`, or a dotted path to one elsewhere."""
    path = name if "." in name else f"repro.experiments.{name}"
    try:
        if not re.fullmatch(r"\w+(\.\w+)*", path):
            raise ModuleNotFoundError(name=path)
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise  # the module is there, and misses something itself: our mistake, not the user's
        raise UserError(f"module={name}: there is no Python module {path}") from None


def validated(raw: Mapping[str, Any]) -> Config:
    """Checks a composed and resolved configuration.

    An experiment's module narrows what it takes by a `Config` of its own. Its `Options` are checked last and find
    the rest in `info.context["config"]`.

    Raises:
        UserError: for the first mistake found, in one line.
    """
    module = experiment_module(str(raw["module"]))
    if missing := [name for name in ("Options", "run", "figures") if not hasattr(module, name)]:
        raise UserError(f"module={raw['module']}: {module.__name__} is no experiment, it lacks {', '.join(missing)}")
    try:
        config = getattr(module, "Config", Config).model_validate(raw)
    except ValidationError as error:
        raise UserError(one_line(error, raw)) from None
    try:
        options = module.Options.model_validate(raw["options"], context={"config": config})
    except ValidationError as error:
        raise UserError(one_line(error, raw, ("options",))) from None
    return config.model_copy(update={"options": options})


def dotted_keys(raw: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys of all values in nested dicts, inner nodes included."""
    if isinstance(raw, Mapping):
        for key, value in raw.items():
            yield f"{prefix}{key}"
            yield from dotted_keys(value, f"{prefix}{key}.")


def nearest(name: str, known: list[str]) -> str:
    """ "; did you mean …?" for a near miss, else nothing. The last part of a dotted key counts by itself too:
    `block_sise` finds `dropout.block_size`."""
    if near := difflib.get_close_matches(name, known, n=1, cutoff=0.85):
        return f"; did you mean {near[0]}?"
    tails = {key.rpartition(".")[2]: key for key in reversed(known)}
    if near := difflib.get_close_matches(name.rpartition(".")[2], list(tails), n=1, cutoff=0.7):
        return f"; did you mean {tails[near[0]]}?"
    return ""


def shown(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, str) and value and not re.fullmatch(r"[\d.+-]+", value):
        return value
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_TYPES = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "finite_number": "a finite number",
    "dict_type": "a group of settings",
    "model_type": "a group of settings",
    "model_attributes_type": "a group of settings",
}
_LIMITS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def one_line(error: ValidationError, raw: Mapping[str, Any], base: tuple[str, ...] = ()) -> str:
    """The first of pydantic's errors as `key=value: what is allowed`."""
    first = error.errors()[0]
    kind, context, value = first["type"], first.get("ctx", {}), first["input"]
    key = _key(raw, (*base, *first["loc"]))
    if kind == "extra_forbidden":
        known = [other for other in dotted_keys(raw) if other != key]
        return f"{key}: unknown key{nearest(key, known) or '; --help lists all keys'}"
    if kind == "missing":
        return f"{key}: is not set, and has no default"
    if kind == "value_error":
        message = str(context["error"])
        named = message.partition(":")[0].partition("=")[0]  # a check over several keys names its own
        if "." in named and named in set(dotted_keys(raw)):
            return message
        whole_group = isinstance(value, Mapping | BaseModel)
        return f"{key}: {message}" if whole_group else f"{key}={shown(value)}: {message}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tags = context.get("expected_tags", "").replace("'", "")
        chosen = value.get("kind") if isinstance(value, Mapping) else value
        return f"{key}.kind={shown(chosen)}: must be one of {tags}"
    if kind == "literal_error":
        allowed = context["expected"].replace("'", "").replace(" or ", ", ")
        near = nearest(value, allowed.split(", ")) if isinstance(value, str) else ""
        return f"{key}={shown(value)}: must be one of {allowed}{near}"
    if kind in _LIMITS:
        limit, words = _LIMITS[kind]
        return f"{key}={shown(value)}: must be {words} {context[limit]}"
    if kind == "string_pattern_mismatch":
        return f"{key}={shown(value)}: must be lower-case letters, digits and _"
    if kind == "too_short":
        return f"{key}={shown(value)}: must have at least {context['min_length']} value"
    if kind in _TYPES:
        return f"{key}={shown(value)}: must be {_TYPES[kind]}"
    return f"{key}={shown(value)}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _key(raw: Any, location: tuple[int | str, ...]) -> str:
    """The dotted key of pydantic's location, which has list positions and unions' tags in it as well."""
    parts: list[str] = []
    for n, part in enumerate(location):
        if isinstance(raw, Mapping) and part in raw:
            raw = raw[part]
            parts.append(str(part))
        elif isinstance(part, str) and isinstance(raw, Mapping) and n == len(location) - 1:
            parts.append(part)  # a missing key
    return ".".join(parts)
