"""The page of `--help`: every key with its value, and once what it means, as the comments in `conf/` say.

Of an experiment that is named it says what that takes, and not what there is beside it.
"""

import re
import string
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from omegaconf import OmegaConf, open_dict

from repro.pipeline.composition import conf, files

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_]\w*):(?P<value>[^#]*?)(?:\s+#\s*(?P<comment>.*))?$")
_MORE = re.compile(r"^\s+#\s*(?P<comment>.*)$")


Taken = Callable[[str, Path | None], Mapping[str, Sequence[str]]]
"""The options that an experiment takes, a group at a time."""

OF_ONE = """\
$name: $title
$paper

Usage
  python scripts/run.py ${flags}experiment=$name [key=value ...]
  python scripts/run.py -m ${flags}experiment=$name [key=value,value ...]     a run for each
  python scripts/run.py ${flags}experiment=$name --cfg job --resolve          sizes of this scale, worked out

Groups that it takes: exchange one whole, as in $example; * is what it has
$groups
Keys and their values: override any of them, as in seed=3
$keys
Flags, and all experiments and launchers: python scripts/run.py --help
"""
FIRST = ("options", "dropout", "training", "model", "data", "seed", "scale")  # of one experiment's keys


def page(overrides: Sequence[str], extra: Path | None, taken: Taken) -> str:
    """The template in conf/config.yaml, or that of one experiment, filled in."""
    with conf.explained(overrides, extra):
        config = conf.compose_all(overrides, extra, return_hydra_config=True)
        choices = dict(config.hydra.runtime.choices)
        comments = _comments(choices, extra)
        template = string.Template(config.hydra.help.template)
        with open_dict(config):
            del config["hydra"]
    values = conf.as_dict(OmegaConf.to_container(config, resolve=False))
    name = choices.get("experiment")
    if name is None:
        groups = {group: names for group, names in files.groups(extra).items() if group != "experiment"}
        lines = "\n".join(f"{group}: {', '.join(names)}" for group, names in groups.items())
        return template.substitute(
            EXPERIMENTS=_experiments(extra), APP_CONFIG_GROUPS=lines, CONFIG=_explained(values, comments)
        )
    head = {key: values.pop(key) for key in ("name", "module", "title", "paper")}
    first = {key: values.pop(key) for key in FIRST if key in values}
    takes = taken(name, extra)
    others = [f"{group}={other}" for group, names in takes.items() for other in names if other != choices[group]]
    return string.Template(OF_ONE).substitute(
        head,
        flags=f"--config-dir {extra} " if extra else "",
        example=["seed=3", *others][-1],
        groups="\n".join(_options(group, names, choices[group], extra) for group, names in takes.items()),
        keys=_explained(first | values, comments),
    )


def _experiments(extra: Path | None) -> str:
    """A line an experiment, under the paper whose question it asks."""
    confs = (files.CONF, extra) if extra else (files.CONF,)
    titles = files.experiments(*confs)
    width = max(map(len, titles))
    lines = []
    for paper, names in files.papers(*confs).items():
        lines += [f"  {paper}", *(f"    {name:<{width}}  {titles[name]}" for name in names)]
    return "\n".join(lines)


def _options(group: str, names: Sequence[str], chosen: str | None, extra: Path | None) -> str:
    """A line an option, with the comment above its file's first key."""
    lines = []
    for name in names:
        text = files.files_of(group, name, extra)[-1].read_text(encoding="utf-8")
        about = text.partition("\n")[0][1:] if text.startswith("#") else ""
        lines.append(f"{'*' if name == chosen else ' '} {f'{group}={name}':<32}{about}".rstrip())
    return "\n".join(lines)


def _explained(values: Mapping[str, object], comments: Mapping[str, str]) -> str:
    """The keys and values as YAML, with what is said of each."""
    whole_lines = yaml.safe_dump(dict(values), allow_unicode=True, sort_keys=False, width=sys.maxsize)
    return "\n".join(f"{line:<40} # {comments[key]}" if key in comments else line for line, key in _keyed(whole_lines))


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
