"""Which files a folder holds, and what their names say: training, validation or test set."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from repro.data.report import TESTED
from repro.pipeline.system.errors import UserError

# Those of Hugging Face's `datasets`; here also in capitals, and with an ending (testset).
WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
ENDINGS = ("", "set", "data", "image", "images", "img", "imgs", "split")
SPLIT_OF = {word + ending: split for split, words in WORDS.items() for word in words for ending in ENDINGS}
# What operating systems, editors and network drives leave, beside whatever begins with a dot.
LEFT = {
    *("__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini", "Desktop.ini", "ehthumbs.db", "$RECYCLE.BIN", "#recycle"),
    *("System Volume Information", "lost+found", "@eaDir", "Icon\r"),
}


def said(name: str) -> frozenset[str]:
    """The splits that a name has a word of: `train-00000-of-00002`, `Test`, `val2017`, `seg_train`."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return frozenset(SPLIT_OF[word.lower()] for word in words if word.lower() in SPLIT_OF)


def below(root: Path) -> tuple[list[Path], list[Path]]:
    """All folders and all files below `root`, relative to it and sorted; links are followed, system files left out.

    Raises:
        UserError: no such folder, or one that cannot be read; a link to nothing, or to a folder that it is in.
    """
    folders: list[Path] = []
    files: list[Path] = []

    def walk(folder: Path, above: frozenset[Path]) -> None:
        try:
            inside = sorted(folder.iterdir())
        except OSError as error:
            raise UserError(f"data.root={root}: {folder} cannot be read ({error.strerror})") from None
        for path in inside:
            if path.name in LEFT or path.name.startswith("."):
                continue
            if path.is_dir():
                if (real := path.resolve()) in above:
                    raise UserError(f"{path}: a link to a folder that it is in itself")
                folders.append(path.relative_to(root))
                walk(path, above | {real})
            elif path.exists():
                files.append(path.relative_to(root))
            else:
                raise UserError(f"{path}: a link to a file that is not there")

    if not root.is_dir():
        raise UserError(f"data.root={root}: there is no such folder")
    walk(root, frozenset({root.resolve()}))
    return folders, files


def uses(root: Path, splits: Collection[str]) -> tuple[str | None, dict[str, str]]:
    """The split that is tested on, None where there is none, and of each split what it is used for.

    A validation set tests where there is no test set, and is not used where there is one: nothing here is tuned on it.
    """
    splits = [split for split in WORDS if split in splits]
    if "train" not in splits:
        raise UserError(f"data.root={root}: holds {' and '.join(splits)}, and nothing to train on")
    test = next((split for split in ("test", "validation") if split in splits), None)
    of = {"train": "trained on", test: TESTED} if test else {"train": "trained on and, held out, tested on"}
    return test, {split: of.get(split, f"not used, because there is a {test} set") for split in splits}


def by_suffix(files: Iterable[Path]) -> Counter[str]:
    return Counter(path.suffix.lower() or "without suffix" for path in files)


def listed(names: Iterable[object], most: int = 5) -> str:
    """`a, b, c`, the first of them where they are many."""
    all_of_them = [*map(str, names)]
    rest = len(all_of_them) - most
    return ", ".join(all_of_them[:most]) + (f" and {rest} more" if rest > 0 else "")
