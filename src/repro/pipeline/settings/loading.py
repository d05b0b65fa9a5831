"""From a command line to a checked configuration."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from repro.pipeline.composition import conf
from repro.pipeline.settings.config import Config, module_of, one_line
from repro.pipeline.system.errors import UserError


def load(overrides: Sequence[str], *, extra: Path | None = None, elsewhere: bool = False) -> Config:
    """Composes `conf/config.yaml` with `overrides` (those of one job) and checks the result by the `Config` of its
    experiment; a `UserError` tells the first mistake in one line.

    `extra` is a folder laid out as `conf/`, for what has no file there. A run `elsewhere` may name a device that is
    not here.
    """
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
    return config


def announce(configs: Sequence[Config], overrides: Sequence[str]) -> None:
    """Says which scale `auto` picked, where it was asked to pick."""
    if not any(text.split("=")[0] == "scale" for text in overrides) and configs:
        hardware = "a usable NVIDIA GPU" if conf.cuda_is_usable() else "no usable NVIDIA GPU"
        print(f"scale={configs[0].scale}, picked by hardware ({hardware}); or give scale=smoke|cpu|gpu")
