"""From `conf/` and the command line to a checked `Config`, by Hydra.

Imports neither torch nor pandas, so that `--help` and a mistyped key are answered at once.
"""

import ctypes
import re
import string
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from repro.errors import UserError

if TYPE_CHECKING:
    from repro.config import Config
    from repro.launchers import Launcher

CONF = Path(__file__).resolve().parents[2] / "conf"
SCALES = ("smoke", "cpu", "gpu")
DEVICES = ("auto", "cpu", "cuda")


# ---------------------------------------------------------------------- what there is to run


def experiments(conf: Path = CONF) -> dict[str, str]:
    """Every experiment's name and title, in the order of the numbers that titles end with, as in `(E1)`."""
    titles = {path.stem: _stated("title", path) for path in sorted((conf / "experiment").glob("*.yaml"))}

    def number(item: tuple[str, str]) -> int:
        found = re.search(r"\(E(\d+)\)$", item[1])
        return int(found[1]) if found else sys.maxsize

    return dict(sorted(titles.items(), key=number))


def papers(conf: Path = CONF) -> dict[str, list[str]]:
    """The papers that the experiments reproduce, and the names of each one's experiments; the main paper first."""
    main = _stated("paper", CONF / "config.yaml")
    found: dict[str, list[str]] = {main: []}
    for name in experiments(conf):
        found.setdefault(_stated("paper", conf / "experiment" / f"{name}.yaml") or main, []).append(name)
    return found


def _stated(key: str, path: Path) -> str:
    """The text that a file gives a top-level key, without composing it; empty where it gives none."""
    found = re.search(rf"^{key}:\s*(.+?)\s*(?:\s#.*)?$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].strip("\"'") if found else ""


def _experiment_lines() -> str:
    titles = experiments()
    width = max(map(len, titles), default=0)
    lines = []
    for paper, names in papers().items():
        lines += [f"  {paper}", *(f"    {name:<{width}}  {titles[name]}" for name in names)]
    # the text goes through string.Template: a dollar would be taken for a placeholder
    return "\n".join(lines).replace("$", "$$")


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


def resolved_scale(scale: Any) -> str:
    """`auto` by hardware, any other scale itself."""
    if scale == "auto":
        return "gpu" if cuda_is_usable() else "cpu"
    if scale not in SCALES:
        raise UserError(f"scale={scale}: must be one of auto, {', '.join(SCALES)}")
    return str(scale)


def resolved_device(device: Any, elsewhere: bool = False) -> str:
    """`auto` by hardware; a device that is not there is a `UserError`, unless the run is to be `elsewhere`."""
    if device not in DEVICES:
        raise UserError(f"device={device}: must be one of {', '.join(DEVICES)}")
    if device == "cuda" and not elsewhere and not cuda_is_usable():
        raise UserError("device=cuda: no usable NVIDIA GPU here; allowed: auto, cpu")
    if device == "auto":
        return "cuda" if cuda_is_usable() else "cpu"
    return str(device)


def _at_scale(*values: Any, _root_: Any) -> Any:
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
OmegaConf.register_new_resolver("experiments", _experiment_lines, replace=True)


# ---------------------------------------------------------------------- composing


# ValueError: data=3, and bytes that are no text. Reading a file may fail in any way that YAML has.
NOT_COMPOSED = (HydraException, OmegaConfBaseException, ValueError, OSError, yaml.YAMLError)


def _compose(overrides: Sequence[str], extra: Path | None, **options: bool) -> Any:
    """Hydra over `conf/`, and over the folder `extra` where there is one."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        searchpath = [f"hydra.searchpath=['file://{extra.resolve()}']"] if extra else []
        return compose("config", [*searchpath, *overrides], **options)


def _groups(extra: Path | None) -> dict[str, list[str]]:
    """Every config group and the names of its files."""
    groups: dict[str, set[str]] = {}
    for conf in (conf for conf in (CONF, extra) if conf):
        for path in (*conf.glob("*/*.yaml"), *conf.glob("hydra/launcher/*.yaml")):
            groups.setdefault(path.parent.relative_to(conf).as_posix(), set()).add(path.stem)
    return {group: sorted(names) for group, names in sorted(groups.items())}


def jobs(overrides: Sequence[str], *, multirun: bool = False, extra: Path | None = None) -> list[list[str]]:
    """The overrides of each job: one, or with `multirun` every combination of the values between commas.

    Raises:
        UserError: an override that is not `key=value`, or values between commas without `multirun`.
    """
    parsed = _parsed(overrides)
    for override in parsed:
        if is_launchers(override.input_line):
            raise UserError(f"{override.input_line}: only runs have a launcher")
        if (override.package or override.key_or_group.split(".")[0].split("/")[0]) == "hydra":
            raise UserError(f"{override.input_line}: Hydra's own settings cannot be changed here")
        if override.is_sweep_override() and not multirun:
            key, values = override.get_key_element(), ",".join(override.sweep_string_iterator())
            hint = "" if (CONF / key).is_dir() else f", or {key}=[{values}] for one run over all"
            raise UserError(f"{override.input_line}: several values need -m for a run each{hint}")
    if not multirun:
        return [list(overrides)]
    try:
        return BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
    except HydraException as error:
        raise UserError(_first_line(error)) from None


def is_launchers(override: str | None) -> bool:
    """Whether an override chooses or sets a launcher, and so is no part of a run's configuration."""
    return bool(override) and str(override).lstrip("+~").startswith(("hydra/launcher=", "hydra.launcher."))


def launcher(overrides: Sequence[str], *, extra: Path | None = None) -> "Launcher | None":
    """What `hydra/launcher=NAME hydra.launcher.key=value` say; None where they leave Hydra's `basic`.

    Raises:
        UserError: for any mistake in them, in one line.
    """
    chosen = [text for text in overrides if is_launchers(text)]
    if not chosen or chosen == ["hydra/launcher=basic"]:
        return None
    from repro.launchers import validated

    try:
        config = _compose(chosen, extra, return_hydra_config=True).hydra.launcher
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise explained(error, chosen, extra) from error
    return validated(OmegaConf.to_container(config, resolve=True))


def load(overrides: Sequence[str], *, extra: Path | None = None, elsewhere: bool = False) -> "Config":
    """Composes `conf/config.yaml` with `overrides` (those of one job) and checks the result.

    `extra` is a folder laid out as `conf/` whose files are found first. A run `elsewhere` may name a device that is
    not here.

    Raises:
        UserError: for any mistake in `overrides`, in one line.
    """
    from repro.config import validated

    return validated(composed(overrides, extra=extra, elsewhere=elsewhere))


def composed(overrides: Sequence[str], *, extra: Path | None = None, elsewhere: bool = False) -> dict[str, Any]:
    """The composed configuration as plain dicts, with scale, device and all interpolations resolved."""
    try:
        config = _compose(overrides, extra)
        if OmegaConf.is_missing(config, "name"):
            raise UserError(f"no experiment named; add {_one_of_the_experiments()}")
        config.scale = resolved_scale(config.get("scale"))
        config.device = resolved_device(config.get("device"), elsewhere)
        raw = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except NOT_COMPOSED as error:
        raise explained(error, overrides, extra) from error
    return {str(key): value for key, value in dict(raw).items()}  # type: ignore[arg-type]


def help_page(overrides: Sequence[str], *, extra: Path | None = None) -> str:
    """The text of `--help`, from the template in conf/config.yaml; Hydra's own takes half as long again."""
    try:
        config = _compose(overrides, extra, return_hydra_config=True)
        template = string.Template(config.hydra.help.template)
        with open_dict(config):
            del config["hydra"]
    except NOT_COMPOSED as error:
        raise explained(error, overrides, extra) from error
    groups = "\n".join(f"{group}: {', '.join(names)}" for group, names in _groups(extra).items())
    return template.substitute(APP_CONFIG_GROUPS=groups, CONFIG=OmegaConf.to_yaml(config))


def explained(error: Exception, overrides: Sequence[str], extra: Path | None = None) -> UserError:
    """Hydra's error over `overrides` in one line: which of them is wrong and what is allowed instead."""
    groups = _groups(extra)
    chosen: list[str] = []
    try:
        for override in _parsed(overrides):
            group = override.key_or_group
            if group in groups and override.value() not in groups[group]:
                return UserError(_unknown_option(group, override, groups[group]))
            if group in groups:
                chosen.append(str(override.input_line))
        known = _known_keys(chosen, extra)
        for override in _parsed(overrides):
            key = override.key_or_group
            if not override.is_add() and key not in known and key not in groups:
                near = _nearest(key, [*known, *groups])
                return UserError(f"{override.input_line}: unknown key {key}{near}")
    except UserError as mistake:
        return mistake
    except NOT_COMPOSED:  # the files themselves do not compose
        for path in sorted(extra.glob("**/*.yaml")) if extra else ():
            try:
                OmegaConf.load(path)
            except NOT_COMPOSED as reason:
                return UserError(f"{path}: cannot be read as YAML ({' '.join(str(reason).split())})")
    return UserError(_first_line(error))


def _parsed(overrides: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            reason = "the value cannot be read" if "=" in text else "not an override"
            raise UserError(f"{text}: {reason}; an override is key=value, as in seed=3") from error
    return parsed


def _known_keys(overrides: list[str], extra: Path | None) -> list[str]:
    from repro.config import dotted_keys

    config = _compose(overrides, extra, return_hydra_config=True)
    launcher = {"hydra": {"launcher": OmegaConf.to_container(config.hydra.launcher, resolve=False)}}
    with open_dict(config):
        del config["hydra"]
    return list(dotted_keys(launcher)) + list(dotted_keys(OmegaConf.to_container(config, resolve=False)))


def _unknown_option(group: str, override: Override, options: list[str]) -> str:
    from repro.config import nearest, shown

    value = override.value()
    near = nearest(value, options) if isinstance(value, str) else ""
    return f"{group}={shown(value)}: must be one of {', '.join(options)}{near}"


def _nearest(key: str, known: list[str]) -> str:
    from repro.config import nearest

    return nearest(key, known) or "; --help lists all keys"


def _one_of_the_experiments() -> str:
    return f"experiment=NAME, one of {', '.join(experiments()) or '(none in conf/experiment)'}"


def _first_line(error: Exception) -> str:
    text = str(error) or (str(error.__cause__) if error.__cause__ else "") or type(error).__name__
    first, *rest = text.strip().splitlines()
    return f"{first} {rest[0]}" if first.endswith(":") and rest else first


def announce(configs: Sequence["Config"], overrides: Sequence[str]) -> None:
    """Says which scale `auto` picked, where it was asked to pick."""
    if not any(text.split("=")[0] == "scale" for text in overrides) and configs:
        hardware = "a usable NVIDIA GPU" if cuda_is_usable() else "no usable NVIDIA GPU"
        print(f"scale={configs[0].scale}, picked by hardware ({hardware}); or give scale=smoke|cpu|gpu")
