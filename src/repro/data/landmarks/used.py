"""Which files of a folder are pictures with points."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from repro.data.image_files.folders import SUFFIXES
from repro.data.image_files.splits import below, said
from repro.data.landmarks import Settings
from repro.pipeline.system.errors import UserError

POINTS = (".pts", ".csv")


class Marked(NamedTuple):
    """A picture, the file of its points, and whether it is tested on."""

    picture: Path
    points: Path
    test: bool


def used(settings: Settings) -> list[Path]:
    """The files whose content the data depend on."""
    return [path for one in find(Path(settings.root or "")) for path in (one.picture, one.points)]


def find(root: Path) -> list[Marked]:
    """Every picture below `root` with its points, in order.

    Raises:
        UserError: a picture without points, or with two files of them; points without a picture; no picture.
    """
    _, files = below(root)
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    of: dict[Path, list[Path]] = {}
    for path in files:
        if path.suffix.lower() in POINTS:
            of.setdefault(path.with_suffix(""), []).append(path)
    if not pictures:
        raise UserError(f"data.root={root}: holds no pictures")
    lacking = [path for path in pictures if path.with_suffix("") not in of]
    if lacking:
        more = f" ({len(lacking)} pictures lack them)" if len(lacking) > 1 else ""
        raise UserError(f"{root / lacking[0]}: no points beside it, {lacking[0].stem}.pts or .csv{more}")
    named = {path.with_suffix("") for path in pictures}
    for stem, some in of.items():
        if len(some) > 1:
            raise UserError(f"{root / some[0]} and {some[1].name}: which of them has the points? Leave one")
        if stem not in named and some[0].suffix.lower() == ".pts":
            raise UserError(f"{root / some[0]}: points without a picture beside them")
    if len(named) < len(pictures):
        twice = next(one for one, other in pairwise(pictures) if one.with_suffix("") == other.with_suffix(""))
        raise UserError(f"{root / twice}: two pictures of that name, and one file of points")
    return [Marked(root / path, root / of[path.with_suffix("")][0], _tested(path)) for path in pictures]


def _tested(path: Path) -> bool:
    return any("test" in said(part) for part in path.with_suffix("").parts)
