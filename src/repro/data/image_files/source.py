"""What a reader of files has found: which files, encoded pictures with their labels, and what is used for what."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from repro.data.report import Split


class Picture(NamedTuple):
    """An encoded picture, in a file or in memory; what to call it; the number of its class."""

    source: Path | bytes
    name: str
    label: int


class Source(NamedTuple):
    """The sets that are used, and what was found.

    Attributes:
        files: those that are used, and none else.
        train: reads what is trained on.
        test: reads what is tested on; None where it is to be held out of `train`.
        names: of the classes, in the order of their numbers; None where the files give them none.
        splits: by name.
        not_read: how many other files there are, by suffix.
    """

    files: list[Path]
    train: Callable[[], list[Picture]]
    test: Callable[[], list[Picture]] | None
    names: tuple[str, ...] | None
    splits: Mapping[str, Split]
    not_read: Mapping[str, int]
