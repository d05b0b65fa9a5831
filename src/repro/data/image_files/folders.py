"""Folders of pictures: one for each class, in the data's folder itself or in one for each split."""

import re
from functools import partial
from itertools import combinations
from pathlib import Path
from unicodedata import normalize

from repro.data.image_files.source import Picture, Source
from repro.data.image_files.splits import below, by_suffix, listed, said, uses
from repro.data.report import Split
from repro.pipeline.system.errors import UserError

SUFFIXES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".webp", ".tif", ".tiff", ".gif", ".avif", ".jp2", ".j2k"),
}


def find(root: Path) -> Source:
    """The pictures of `root`/class/… or `root`/split/class/….

    Raises:
        UserError: where names leave open what belongs where, or a class has no pictures to train on.
    """
    folders, files = below(root)
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    places = _splits(root, [path for path in folders if len(path.parts) == 1], pictures)
    test, of = uses(root, places)
    inside = {split: [path for path in pictures if path.is_relative_to(place)] for split, place in places.items()}
    if astray := set(pictures).difference(*inside.values()):
        raise UserError(f"{root / min(astray)}: does not say of which split it is; move it there, or away")
    names = _classes(root, places["train"], folders, inside["train"])
    sets = {split: _pictures(root, places, split, names, inside[split]) for split in ("train", test) if split}
    return Source(
        files=[root / path for split in sets for path in inside[split]],
        train=partial(list, sets["train"]),
        test=partial(list, sets[test]) if test else None,
        names=tuple(names),
        splits={split: Split(use, {str(places[split]): len(inside[split])}) for split, use in of.items()},
        not_read=by_suffix(path for path in files if path.suffix.lower() not in SUFFIXES),
    )


def in_order(names: list[str]) -> list[str]:
    """Sorted, numbers in names as numbers: 2 before 10, `class_2` before `class_10`, -1.5 before 0."""
    if all(re.fullmatch(r"[-+]?\d+(\.\d+)?", name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    # Split at numbers, every second part is one: numbers are compared with numbers.
    parts = {name: re.split(r"(\d+)", name) for name in names}
    return sorted(names, key=lambda n: ([int(p) if i % 2 else p for i, p in enumerate(parts[n])], n))


def _splits(root: Path, tops: list[Path], pictures: list[Path]) -> dict[str, Path]:
    """The folder of each split; that of the training set is `root` itself (".") where folders are classes."""
    if not tops:
        raise UserError(f"data.root={root}: holds no folder for each class")
    inner = {top: {path.parts[1] for path in pictures if path.parts[0] == top.name and path.parts[2:]} for top in tops}
    words = {top: said(top.name) for top in tops}
    if not any(words[top] and inner[top] for top in tops):  # then they are classes, even if one is called test
        if len(spoken := frozenset().union(*words.values())) > 1:
            what = f"{listed(tops)} say {' and '.join(sorted(spoken))}, and hold no folder for each class"
            raise UserError(f"data.root={root}: {what}")
        for one, other in combinations(tops, 2):
            if len(shared := inner[one] & inner[other]) > 1:
                both = f"{one.name} and {other.name} both hold folders {listed(sorted(shared))}"
                raise UserError(f"data.root={root}: {both}; call them train, validation or test if they are splits")
        return {"train": Path()}
    filled = {path.parts[0] for path in pictures}
    splits: dict[str, Path] = {}
    for top in tops:
        if len(words[top]) > 1:
            raise UserError(f"{root / top}: says {' and '.join(sorted(words[top]))}; which of them is it?")
        if not words[top] and top.name in filled:
            others = listed(other.name for other in tops if words[other])
            what = f"does not say of which split it is, as {others} do"
            raise UserError(f"{root / top}: {what}; name it so, or move it away")
        for split in words[top]:
            if split in splits:
                raise UserError(f"data.root={root}: {splits[split]} and {top} are both of the {split} set; leave one")
            if top.name not in filled:
                raise UserError(f"{root / top}: holds no images")
            splits[split] = top
    return splits


def _classes(root: Path, place: Path, folders: list[Path], pictures: list[Path]) -> list[str]:
    """The class folders of the training set, in order."""
    depth = len(place.parts)
    names = in_order([path.name for path in folders if len(path.parts) == depth + 1 and path.is_relative_to(place)])
    filled = {path.parts[depth] for path in pictures if path.parts[depth + 1 :]}
    if empty := next((name for name in names if name not in filled), None):
        raise UserError(f"{root / place / empty}: a class folder that holds no images")
    if len(names) == 1:
        hint = f"; is data.root={root / names[0]} meant?" if any(path.parts[depth + 2 :] for path in pictures) else ""
        raise UserError(f"{root / place}: one class alone, {names[0]}{hint}")
    return names


def _pictures(root: Path, places: dict[str, Path], split: str, names: list[str], paths: list[Path]) -> list[Picture]:
    """The pictures of a split, class by class."""
    place, train = places[split], places["train"]
    depth, number = len(place.parts), {normalize("NFC", name): label for label, name in enumerate(names)}
    rows = []
    for path in paths:
        if not path.parts[depth + 1 :]:
            raise UserError(f"{root / path}: lies in no class folder")
        name = path.parts[depth]
        if normalize("NFC", name) not in number:  # systems write é in two ways
            what = f"a class that {root / train} does not have; it has {listed(names, 20)}"
            raise UserError(f"{root / place / name}: {what}")
        if not depth and (inner := next((part for part in path.parts[1:-1] if said(part)), None)):
            what = f"{inner} within the class {name} says {listed(said(inner))}"
            raise UserError(f"{root / path}: {what}; splits hold classes (split/class/picture), not classes splits")
        rows.append((number[normalize("NFC", name)], path))
    return [Picture(root / path, str(root / path), label) for label, path in sorted(rows)]
