"""From a command line to a checked configuration."""

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from repro.pipeline.composition import conf, files
from repro.pipeline.composition.typed import NOTHING, key_of
from repro.pipeline.composition.wording import shown
from repro.pipeline.settings.config import Config, module_of, one_line
from repro.pipeline.settings.groups import find
from repro.pipeline.system.errors import UserError


def load(overrides: Sequence[str], *, extra: Path | None = None, elsewhere: bool = False) -> Config:
    """Composes `conf/config.yaml` with `overrides` (those of one job) and checks the result by the `Config` of its
    experiment; a `UserError` tells the first mistake in one line.

    `extra` is a folder laid out as `conf/`, for what has no file there. A run `elsewhere` may name a device that is
    not here.
    """
    empty = [text for text in overrides if text.partition("=")[2] in NOTHING]
    options = files.groups(extra) if empty else {}
    if nothing := [text for text in empty if text.partition("=")[2] not in options.get(key_of(text), ())]:
        others = [text for text in overrides if text not in nothing]
        raise _unclear(nothing[0], others, extra, elsewhere)
    try:
        return _load(overrides, extra, elsewhere)
    except UserError as mistake:
        others = [text for text in overrides if not text.startswith("~")]
        if len(others) == len(overrides) or not _loads(others, extra):
            raise
        away = next(text for text in overrides if text not in others)
        raise _unclear(away, others, extra, elsewhere) from mistake


def _load(overrides: Sequence[str], extra: Path | None, elsewhere: bool) -> Config:
    raw = conf.composed(overrides, extra=extra, elsewhere=elsewhere)
    module = module_of(str(raw["module"]))
    found = getattr(module, "Config", None)
    if not (isinstance(found, type) and issubclass(found, Config)):
        raise UserError(f"module={raw['module']}: {module.__name__} is no experiment, it lacks Config")
    try:
        config = found.model_validate(raw)
    except ValidationError as error:
        raise UserError(one_line(error, raw)) from None
    for key, why in config.ignored().items():
        if typed := next((text for text in overrides if text.partition("=")[0].lstrip("+") == key), None):
            raise UserError(f"{typed}: has no effect here, {why}")
    if config.device == "cuda" and not config.training.ON_GPU:
        if any(key_of(text) == "device" and "auto" not in text for text in overrides):
            raise UserError(f"device=cuda: {config.name} computes on the CPU alone; allowed: auto, cpu")
        config = config.model_copy(update={"device": "cpu"})
    return config


def _unclear(text: str, others: Sequence[str], extra: Path | None, elsewhere: bool) -> UserError:
    """What to type in place of a key that is taken away, or set to another language's null."""
    key = key_of(text)
    as_null = f"{key}=null"
    if key in files.groups(extra):
        try:
            conf.composed([*others, text if "=" in text else as_null], extra=extra, elsewhere=elsewhere)
        except UserError as mistake:
            return mistake
    without: object = conf.composed(others, extra=extra, elsewhere=elsewhere)
    for part in key.split("."):
        if not isinstance(without, dict) or part not in without:
            return UserError(f"{text}: unknown key {key}; --help lists all keys")
        without = without[part]
    try:
        load([*others, as_null], extra=extra, elsewhere=elsewhere)
    except UserError as mistake:
        what = str(mistake).partition(": ")[2] if str(mistake).startswith(f"{as_null}:") else "cannot be empty"
        return UserError(f"{text}: {what}; without it {key} is {shown(without)}")
    return UserError(f"{text}: nothing is written null, as in {as_null}; without it {key} is {shown(without)}")


def taken(experiment: str, extra: Path | None = None) -> dict[str, list[str]]:
    """The options of each group that an experiment takes: by the type of its settings, and of noise by trying."""
    config = load([f"experiment={experiment}"], extra=extra, elsewhere=True)
    found: dict[str, list[str]] = {}
    for group, names in files.groups(extra).items():
        if group not in conf.CHOSEN_WHOLE:
            continue
        if group == "dropout":
            found[group] = [name for name in names if _loads([f"experiment={experiment}", f"dropout={name}"], extra)]
        else:
            base = type(config).model_fields[group].annotation
            found[group] = [name for name in names if _is(base, group, name, extra)]
    return found


def _loads(overrides: Sequence[str], extra: Path | None) -> bool:
    try:
        return bool(load(overrides, extra=extra, elsewhere=True))
    except UserError:
        return False


def _is(base: object, group: str, name: str, extra: Path | None) -> bool:
    """Whether one of the kinds that an option may have is settings of type `base`."""
    own, inherited = files.option(group, name, extra)
    kinds = (find(group, word) for word in re.findall(r"[\w.]+", str((inherited | own).get("kind"))))
    return isinstance(base, type) and any(issubclass(kind, base) for kind in kinds if kind)


def announce(configs: Sequence[Config], overrides: Sequence[str]) -> None:
    """Says which scale `auto` picked, where it was asked to pick."""
    if not any(text.split("=")[0] == "scale" for text in overrides) and configs:
        hardware = "a usable NVIDIA GPU" if conf.cuda_is_usable() else "no usable NVIDIA GPU"
        print(f"scale={configs[0].scale}, picked by hardware ({hardware}); or give scale=smoke|cpu|gpu")
