"""What `conf/` composes to with the overrides of a command line, by Hydra.

Imports next to nothing, so that `--help` and a mistyped key are answered at once.
"""

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import cast

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from repro.pipeline.composition.files import CONF, experiments, groups, keys_of, option
from repro.pipeline.composition.typed import NOTHING, in_quotes, parsed
from repro.pipeline.composition.wording import dotted_keys, first_line, nearest, shown
from repro.pipeline.system.errors import UserError

SCALES = ("smoke", "cpu", "gpu")
DEVICES = ("auto", "cpu", "cuda")


# ---------------------------------------------------------------------- hardware


@cache
def cuda_is_usable() -> bool:
    """Whether NVIDIA's driver is there and shows a GPU; asks the driver itself, since importing torch only to
    learn that there is none takes seconds."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int()
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return False


def resolved_scale(scale: object) -> str:
    """`auto` by hardware, any other scale itself."""
    if scale == "auto":
        return "gpu" if cuda_is_usable() else "cpu"
    if scale not in SCALES:
        raise UserError(f"scale={scale}: must be one of auto, {', '.join(SCALES)}")
    return str(scale)


def resolved_device(device: object, elsewhere: bool = False) -> str:
    """`auto` by hardware; a device that is not there is a `UserError`, unless the run is to be `elsewhere`."""
    if device not in DEVICES:
        raise UserError(f"device={device}: must be one of {', '.join(DEVICES)}")
    if device == "cuda" and not elsewhere and not cuda_is_usable():
        raise UserError("device=cuda: no usable NVIDIA GPU here; allowed: auto, cpu")
    if device == "auto":
        return "cuda" if cuda_is_usable() else "cpu"
    return str(device)


def _at_scale(*values: object, _root_: DictConfig) -> object:
    """`${at_scale:a,b,c}`: a at scale smoke, b at cpu, c at gpu."""
    if len(values) != len(SCALES):
        raise ValueError(f"${{at_scale:...}} takes 3 values (smoke, cpu, gpu), got {len(values)}")
    value = values[SCALES.index(resolved_scale(_root_.scale))]
    return OmegaConf.create(value) if isinstance(value, list) else value  # a plain list cannot be resolved in place


def _cifar10_or(other: str, root: str, download: bool) -> str:
    """`${cifar10_or:mnist5k,${data.root},${data.download}}`: cifar10 where its files are or may be fetched."""
    return "cifar10" if download or (Path(root) / "cifar-10-batches-py").is_dir() else other


OmegaConf.register_new_resolver("at_scale", _at_scale, replace=True)
OmegaConf.register_new_resolver("cifar10_or", _cifar10_or, replace=True)


# ---------------------------------------------------------------------- composing


class NotOurs(UserError):
    """A setting of Hydra's own; its message is the override."""


# Groups that are taken whole when they are named on the command line.
CHOSEN_WHOLE = ("data", "model", "dropout", "training")

RATES = ("p", "retain")  # of dropout; an experiment gives one of them, and who types the other means that instead

# ValueError: data=3, and bytes that are no text. Reading a file may fail in any way that YAML has.
NOT_COMPOSED = (HydraException, OmegaConfBaseException, ValueError, OSError, yaml.YAMLError)


def compose_all(overrides: Sequence[str], extra: Path | None, *, return_hydra_config: bool = False) -> DictConfig:
    """Hydra over `conf/`, and after it over the folder `extra` where there is one. A group that `overrides` name wins
    over what an experiment's file says of that group, with every key that the option's own file sets.

    Of the experiment's other keys those stay that the option takes: its grid, not the kind of what it replaces.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        searchpath = [f"hydra.searchpath=['file://{extra.resolve()}']"] if extra else []
        config = compose("config", [*searchpath, *overrides], return_hydra_config=return_hydra_config)
    given = parsed(overrides)
    typed = [override.key_or_group for override in given]
    for override in given:
        if override.key_or_group in CHOSEN_WHOLE and isinstance(override.value(), str):
            _exchange(config, override.key_or_group, str(override.value()), typed, extra)
    rates = {f"dropout.{name}" for name in RATES} & {one.key_or_group for one in given if one.value() is not None}
    if len(rates) == 1:
        (other,) = {f"dropout.{name}" for name in RATES} - rates
        config.dropout[other.removeprefix("dropout.")] = None
    return config


def _exchange(config: DictConfig, group: str, name: str, typed: Sequence[str], extra: Path | None) -> None:
    """Gives `config[group]` what the option `name` sets, but for the keys that were `typed`."""
    own, inherited = option(group, name, extra)
    default = cast(dict[str, object], keys_of(CONF / "config.yaml").get(group) or {})
    with open_dict(config):
        for key in list(config[group]):
            if key not in {*own, *inherited, *default} and f"{group}.{key}" not in typed:
                del config[group][key]
        for key, value in own.items():
            if f"{group}.{key}" not in typed:
                config[group][key] = value


def jobs(overrides: Sequence[str], *, multirun: bool = False) -> list[list[str]]:
    """The overrides of each job: one, or with `multirun` every combination of the values between commas; a `UserError`
    for an override that is not `key=value`, or values between commas without `multirun`."""
    given = parsed(overrides)
    for override in given:
        for plugin in PLUGINS:
            if sets(plugin, override.input_line):
                raise UserError(f"{override.input_line}: only runs have a {plugin}")
        if override.input_line and override.input_line.startswith("figure."):
            raise UserError(
                f"{override.input_line}: only scripts/figures.py takes it, which redraws records without training"
            )
        if (override.package or override.key_or_group.split(".")[0].split("/")[0]) == "hydra":
            raise NotOurs(str(override.input_line))
        if override.is_sweep_override() and not multirun:
            key, values = override.get_key_element(), ",".join(override.sweep_string_iterator())
            hint = "" if (CONF / key).is_dir() else f", or {key}=[{values}] for one run over all"
            if not all(value[:1].isdigit() for value in values.split(",")):
                hint += f"; a comma within text {in_quotes(key, values)}"
            raise UserError(f"{override.input_line}: several values need -m for a run each{hint}")
    if not multirun:
        return [list(overrides)]
    try:
        return BasicSweeper.split_arguments(given, max_batch_size=None)[0]
    except HydraException as error:
        raise UserError(first_line(error)) from None


PLUGINS = ("launcher", "sweeper")  # of Hydra's, which have options here


def sets(plugin: str, override: str | None) -> bool:
    """Whether an override chooses or sets the launcher or sweeper, and so is no part of a run's configuration."""
    return bool(override) and str(override).lstrip("+~").startswith((f"hydra/{plugin}=", f"hydra.{plugin}."))


def chosen(plugin: str, overrides: Sequence[str], *, extra: Path | None = None) -> dict[str, object] | None:
    """What `hydra/launcher=NAME hydra.launcher.key=value` compose to, and the like for the sweeper; None where they
    leave Hydra's `basic`."""
    typed = [text for text in overrides if sets(plugin, text)]
    if not typed or typed == [f"hydra/{plugin}=basic"]:
        return None
    with explained(typed, extra):
        return plain(compose_all(typed, extra, return_hydra_config=True).hydra[plugin])


def composed(overrides: Sequence[str], *, extra: Path | None = None, elsewhere: bool = False) -> dict[str, object]:
    """The composed configuration as plain dicts, with scale, device and all interpolations resolved."""
    with explained(overrides, extra):
        config = compose_all(overrides, extra)
        if OmegaConf.is_missing(config, "name"):
            known = ", ".join(experiments(*([extra] if extra else []), CONF))
            raise UserError(f"no experiment named; add experiment=NAME, one of {known}")
        config.scale = resolved_scale(config.get("scale"))
        config.device = resolved_device(config.get("device"), elsewhere)
        return plain(config)


def plain(config: DictConfig) -> dict[str, object]:
    """A composed configuration as dicts, lists and values, all interpolations resolved."""
    return as_dict(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))


def as_dict(raw: object) -> dict[str, object]:
    return {str(key): value for key, value in raw.items()} if isinstance(raw, dict) else {}


@contextmanager
def explained(overrides: Sequence[str], extra: Path | None = None) -> Iterator[None]:
    """Tells Hydra's errors over `overrides` in one line."""
    try:
        yield
    except NOT_COMPOSED as error:
        raise _mistake(error, overrides, extra) from error


def _mistake(error: Exception, overrides: Sequence[str], extra: Path | None) -> UserError:
    """Which of `overrides` is wrong and what is allowed instead."""
    options = groups(extra)
    chosen: list[str] = []
    try:
        given = parsed(overrides)
        for override in given:
            if (allowed := options.get(override.key_or_group)) is None:
                continue
            if (value := override.value()) not in allowed:
                return _no_option(override.key_or_group, value, allowed, str(override.input_line))
            chosen.append(str(override.input_line))
        known = _known_keys(chosen, extra)
        for override in given:
            key = override.key_or_group
            if override.is_add() and key in known:
                sets = str(override.input_line).lstrip("+")
                return UserError(f"{override.input_line}: {key} is there already; {sets} sets it")
            if override.is_delete():
                return UserError(f"{override.input_line}: a key cannot be taken away; {key}=null says nothing")
            if not override.is_add() and key not in known and key not in options:
                near = _of_others(key, extra) or nearest(key, [*known, *options]) or "; --help lists all keys"
                return UserError(f"{override.input_line}: unknown key {key}{near}")
    except UserError as mistake:
        return mistake
    except NOT_COMPOSED:  # the files themselves do not compose
        for path in sorted(extra.glob("**/*.yaml")) if extra else ():
            try:
                OmegaConf.load(path)
            except NOT_COMPOSED as reason:
                return UserError(f"{path}: cannot be read as YAML ({' '.join(str(reason).split())})")
    return UserError(first_line(error))


def _no_option(group: str, value: object, allowed: Sequence[str], typed: str) -> UserError:
    """What to say of a value that is none of a group's options."""
    named = typed if typed.startswith("~") else f"{group}={shown(value)}"
    if group == "tracking" and (value is None or value in (*NOTHING, "disabled", "off", "false", False)):
        return UserError(f"{named}: tracking.mode=disabled tracks nothing")
    near = nearest(value, list(allowed)) if isinstance(value, str) else ""
    return UserError(f"{named}: must be one of {', '.join(allowed)}{near}")


def _of_others(key: str, extra: Path | None) -> str:
    """The options of its group that have a key which the chosen one has not; empty where none has."""
    group, _, name = key.partition(".")
    having = [
        other for other in groups(extra).get(group, ()) if any(name in part for part in option(group, other, extra))
    ]
    return f", one of {group}={', '.join(having)}" if having else ""


def _known_keys(overrides: list[str], extra: Path | None) -> list[str]:
    config = compose_all(overrides, extra, return_hydra_config=True)
    keys = dotted_keys(OmegaConf.to_container(config, resolve=False))
    return [key for key in keys if not key.startswith("hydra.") or key.startswith(("hydra.launcher", "hydra.sweeper"))]
