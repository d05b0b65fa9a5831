"""What was read of the user's files: told before anything trains, and kept in the record."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

SHOWN = 20  # classes that are told; the record has all
TESTED = "tested on"  # the use of at most one split


class Split(NamedTuple):
    """What it is used for, and its files or its folder, with the images in each; None where nobody has looked."""

    use: str
    files: Mapping[str, int | None]


class Report(NamedTuple):
    """Attributes:
    names: of the classes, in the order of their numbers; None where the files give them none.
    splits: by name.
    conversions: of how many images what was done to have them in 8-bit RGB.
    not_read: the number of other files, by suffix.
    sizes: the images of each class in each split that is used, as read.
    used: how many of them are trained and tested on.
    not_in_test: the classes of which none is.
    """

    names: Sequence[str] | None
    splits: Mapping[str, Split]
    conversions: Mapping[str, int]
    not_read: Mapping[str, int]
    sizes: Mapping[str, Sequence[int]] = {}
    used: tuple[int, int] = (0, 0)
    not_in_test: Sequence[str] = ()

    @property
    def tested(self) -> str:
        """The split that is tested on."""
        return next((name for name, split in self.splits.items() if split.use == TESTED), "test")

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {
            "splits": {name: split._asdict() for name, split in self.splits.items()},
            "classes": [
                {"name": name} | {split: sizes[number] for split, sizes in self.sizes.items()}
                for number, name in enumerate(self.names or ())
            ],
            "not_in_test": list(self.not_in_test),
            "conversions": dict(self.conversions),
            "not_read": dict(self.not_read),
            "trained_on": self.used[0],
            "tested_on": self.used[1],
        }

    def lines(self) -> Iterator[str]:
        """For a reader."""
        for name, (use, files) in self.splits.items():
            counts = [count for count in files.values() if count is not None]
            where = next(iter(files)) + (f" and {len(files) - 1} more" if len(files) > 1 else "")
            yield f"  {name}: {f'{sum(counts):,} images in ' if counts else ''}{where}, {use}"
        names, most = self.names or (), max(len(self.names or ()) - SHOWN, 0)
        sizes = [" + ".join(f"{of[number]:,}" for of in self.sizes.values()) for number in range(len(names))]
        shown = ", ".join(f"{name} ({size})" for name, size in [*zip(names, sizes, strict=True)][:SHOWN])
        yield f"  {len(names)} classes ({' + '.join(self.sizes)}): {shown}{f' and {most} more' if most else ''}"
        if self.not_in_test:
            yield f"  not in the test set: {', '.join(self.not_in_test[:SHOWN])}"
        for what, counts_of in (("converted", self.conversions), ("not read", self.not_read)):
            if counts_of:
                yield f"  {what}: {', '.join(f'{count:,} × {name}' for name, count in counts_of.items())}"
        yield f"  {self.used[0]:,} images to train on, {self.used[1]:,} to test on"
