"""What lies in `conf/`, read without composing it: experiments, groups, and what an option's file sets."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import yaml

CONF = Path(__file__).resolve().parents[4] / "conf"
PAPERS = Path(__file__).resolve().parents[2] / "papers"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where PyYAML was built with it


def keys_of(path: Path) -> dict[str, object]:
    """What a file of ours or of the user's sets, unresolved."""
    return LOADER(path.read_text(encoding="utf-8")).get_single_data() or {}


def experiments(*confs: Path) -> dict[str, str]:
    """Every experiment's name and title, of ours where no folder is given; in the order of the numbers that titles end
    with, as in `(E1)`."""
    files = [path for conf in confs or (CONF,) for path in sorted((conf / "experiment").glob("*.yaml"))]
    titles = {path.stem: _stated("title", path) for path in files}

    def number(item: tuple[str, str]) -> int:
        found = re.search(r"\(E(\d+)\)$", item[1])
        return int(found[1]) if found else sys.maxsize

    return dict(sorted(titles.items(), key=number))


def papers(*confs: Path) -> dict[str, list[str]]:
    """The papers that the experiments reproduce, and the names of each one's experiments; the main paper first."""
    main = _stated("paper", CONF / "config.yaml")
    found: dict[str, list[str]] = {main: []}
    for name in experiments(*confs):
        path = next(path for conf in confs or (CONF,) if (path := conf / "experiment" / f"{name}.yaml").is_file())
        found.setdefault(_stated("paper", path) or main, []).append(name)
    return found


def folders() -> dict[str, list[str]]:
    """The folder in `papers/` of each paper, and the names of its experiments; the main paper first."""
    found: dict[str, list[str]] = {}
    for names in papers().values():
        for name in names:
            module = _stated("module", CONF / "experiment" / f"{name}.yaml") or name
            for path in PAPERS.glob(f"*/{module}/__init__.py"):
                found.setdefault(path.parent.parent.name, []).append(name)
    return found


def _stated(key: str, path: Path) -> str:
    """The text that a file gives a top-level key, without composing it; empty where it gives none."""
    found = re.search(rf"^{key}:\s*(.+?)\s*(?:\s#.*)?$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].strip("\"'") if found else ""


def option(group: str, name: str, extra: Path | None = None) -> tuple[dict[str, object], dict[str, object]]:
    """What the file of an option sets itself, and what it inherits through its list of defaults, unresolved."""
    *bases, own = map(keys_of, files_of(group, name, extra))
    own.pop("defaults", None)
    return own, {key: value for base in bases for key, value in base.items() if key != "defaults"}


def files_of(group: str, name: str, extra: Path | None = None) -> list[Path]:
    """The file of an option, after those from which it inherits through its list of defaults."""
    places = [conf / group / f"{name}.yaml" for conf in (CONF, extra) if conf]  # in Hydra's order
    path = next((place for place in places if place.is_file()), places[0])
    inherits = cast(list[object], keys_of(path).get("defaults", []))
    bases = [base for base in inherits if isinstance(base, str) and base != "_self_"]
    return [*(file for base in bases for file in files_of(group, base, extra)), path]


def options_with(group: str, key: str, values: Sequence[str]) -> list[str]:
    """The options of a group, of those that come with the code, whose `key` may be one of `values`."""
    found = []
    for name in groups(None)[group]:
        own, inherited = option(group, name)
        words = set(re.findall(r"[\w.]+", str((inherited | own).get(key))))
        if words & set(values):
            found.append(name)
    return found


def groups(extra: Path | None) -> dict[str, list[str]]:
    """Every config group and the names of its files."""
    found: dict[str, set[str]] = {}
    for conf in (conf for conf in (CONF, extra) if conf):
        for path in (*conf.glob("*/*.yaml"), *conf.glob("hydra/*/*.yaml")):
            if not path.stem.startswith("_"):  # what several options share
                found.setdefault(path.parent.relative_to(conf).as_posix(), set()).add(path.stem)
    return {group: sorted(names) for group, names in sorted(found.items())}
