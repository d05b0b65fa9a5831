"""The page of `--help`: every key with its value, and once what it means, as the comments in `conf/` say."""

import re
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from omegaconf import OmegaConf, open_dict

from repro.pipeline.composition import conf, files

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_]\w*):(?P<value>[^#]*?)(?:\s+#\s*(?P<comment>.*))?$")
_MORE = re.compile(r"^\s+#\s*(?P<comment>.*)$")


def page(overrides: Sequence[str], extra: Path | None = None) -> str:
    """The template in conf/config.yaml, filled in; Hydra's own page takes half as long again."""
    with conf.explained(overrides, extra):
        config = conf.compose_all(overrides, extra, return_hydra_config=True)
        comments = _comments(config.hydra.runtime.choices, extra)
        template = string.Template(config.hydra.help.template)
        with open_dict(config):
            del config["hydra"]
    groups = "\n".join(f"{group}: {', '.join(names)}" for group, names in files.groups(extra).items())
    values = OmegaConf.to_container(config, resolve=False)
    whole_lines = yaml.safe_dump(values, allow_unicode=True, sort_keys=False, width=sys.maxsize)
    lines = [f"{line:<40} # {comments[key]}" if key in comments else line for line, key in _keyed(whole_lines)]
    return template.substitute(APP_CONFIG_GROUPS=groups, CONFIG="\n".join(lines))


def _comments(choices: Mapping[str, str | None], extra: Path | None) -> dict[str, str]:
    """What the comments in the files of the chosen options say of each dotted key; the general file's word before that
    of a special one, and an experiment's last."""
    found_in = [("", files.CONF / "config.yaml")]
    for group, option in sorted(choices.items(), key=lambda choice: choice[0] == "experiment"):
        if option is not None and not group.startswith("hydra"):
            prefix = "" if group == "experiment" else f"{group}."
            found_in += [(prefix, path) for path in files.files_of(group, option, extra)]
    found: dict[str, str] = {}
    for prefix, path in found_in:
        last = ""
        for line, dotted in _keyed(path.read_text(encoding="utf-8", errors="replace")):
            if (more := _MORE.match(line)) and last:
                found[last] += f" {more['comment']}"
                continue
            last, match = "", _LINE.match(line)
            if match and match["comment"] and (key := f"{prefix}{dotted}") not in found:
                found[key], last = match["comment"], key
    return found


def _keyed(text: str) -> Iterator[tuple[str, str]]:
    """The lines of a YAML file in block style, each with the dotted key that it sets; empty where it sets none."""
    above: list[tuple[int, str]] = []
    for line in text.rstrip().splitlines():
        if match := _LINE.match(line):
            indent = len(match["indent"])
            above = [*((depth, key) for depth, key in above if depth < indent), (indent, match["key"])]
        yield line, ".".join(key for _, key in above) if match else ""
