"""Labelled images for deep networks: read once, kept as bytes on the training device, augmented there in batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor

from repro.data.report import Report
from repro.data.settings import ImageSettings
from repro.pipeline.settings import bound, implementation, ours
from repro.pipeline.system.errors import UserError


@dataclass(frozen=True)
class ImageSet:
    """Images as bytes, (N, channels, height, width), and their classes, (N,) int64."""

    images: UInt8[Tensor, "N channels height width"]
    labels: Int[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor) -> "ImageSet":
        return ImageSet(self.images[rows], self.labels[rows])

    def to(self, device: torch.device | str) -> "ImageSet":
        return ImageSet(self.images.to(device), self.labels.to(device))


class Read(NamedTuple):
    """What a source's `load` returns: the training set, the test set if it has one of its own, and of the user's files
    what was read. A pair without the last will do."""

    train: ImageSet
    test: ImageSet | None
    report: Report | None = None


@dataclass(frozen=True)
class Images:
    """A training and a test set.

    Attributes:
        train: what is trained on.
        test: what never is.
        targets: the target of each class, one a row, (classes, classes): one-hot, or centred on the training set.
        mean: of each channel of the training images, in bytes.
        std: likewise the standard deviation.
        report: what was read of the user's files, for the record; empty where there are none.
    """

    train: ImageSet
    test: ImageSet
    targets: Float[Tensor, "classes classes"]
    mean: Float[Tensor, " channels"]
    std: Float[Tensor, " channels"]
    report: Mapping[str, object] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device | str) -> "Images":
        targets, mean, std = (tensor.to(device) for tensor in (self.targets, self.mean, self.std))
        return Images(self.train.to(device), self.test.to(device), targets, mean, std, self.report)

    def normalized(self, images: UInt8[Tensor, "N c h w"]) -> Float[Tensor, "N c h w"]:
        """Bytes as float32 of mean 0 and variance 1 a channel over the training set."""
        return (images.float() - self.mean[:, None, None]) / self.std[:, None, None]


def load(settings: ImageSettings, say: Callable[[str], object] = lambda line: None) -> Images:
    """The images that `settings` describe: read, split, thinned to their subset and imbalance. What was read of the
    user's files is told to `say`, line by line.

    Raises:
        UserError: files that are not there or cannot be read, images of several shapes, labels that are no classes,
            or classes too small for what is asked.
    """
    try:
        found = bound(implementation(settings, "load"), settings)()
    except (UserError, MemoryError):
        raise
    except Exception as error:  # readers of damaged files stumble over them in as many ways as there are damages
        if settings.kind not in ours("data"):
            raise  # the user's own code, which shows where
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"data.root={settings.root}: cannot be read as {settings.kind} ({reason})") from error
    if not (isinstance(found, tuple) and len(found) in (2, 3) and isinstance(found[0], ImageSet)):
        raise UserError(f"data.kind={settings.kind}: its load must return two ImageSet, the second for testing or None")
    train, test, report = Read(*found)
    _check(train, test)
    sets = {"train": train} | ({report.tested if report else "test": test} if test else {})
    classes = 1 + max(int(part.labels.max()) for part in sets.values())
    names = [*map(str, range(classes))]
    if report is not None:
        names = [*(report.names or names)]
        classes = len(names)
        report = report._replace(names=names, sizes={name: _counts(part, classes) for name, part in sets.items()})
    generator = torch.Generator().manual_seed(settings.seed)
    if test is None:
        train, test = held_out_split(train, settings.held_out, generator)
    if settings.imbalance > 1:
        train = train[long_tail(train.labels, classes, settings.imbalance, generator)]
    if settings.subset is not None:
        train = train[stratified(train.labels, classes, settings.subset, generator)]
    if 0 in (left := _counts(train, classes)):
        number = left.index(0)
        name = f", {names[number]}" if names[number] != str(number) else ""
        raise UserError(f"data: no training image is left of class {number}{name}")
    if report is not None:
        lacking = [name for name, count in zip(names, _counts(test, classes), strict=True) if not count]
        report = report._replace(used=(len(train), len(test)), not_in_test=lacking)
        for line in (f"data.root={settings.root}: read as {settings.kind}", *report.lines()):
            say(line)
    targets = torch.eye(classes)
    if settings.targets == "centred":
        targets = targets - torch.bincount(train.labels, minlength=classes) / len(train)
    # In float64 and through a histogram: exact whatever the number of images, and no float copy of them.
    levels = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([torch.bincount(c.flatten().int(), minlength=256) for c in train.images.unbind(1)]).double()
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ levels
    std = (share @ levels.square() - mean.square()).clamp_min(1e-12).sqrt()
    return Images(train, test, targets, mean.float(), std.float(), report.plain() if report else {})


def _counts(part: ImageSet, classes: int) -> list[int]:
    """The images of each class."""
    counts: list[int] = torch.bincount(part.labels, minlength=classes).tolist()
    return counts


def _check(train: ImageSet, test: ImageSet | None) -> None:
    parts = [part for part in (train, test) if part is not None]
    if any(len(part) == 0 for part in parts):
        raise UserError(f"data: there are {len(train)} training images and {len(test or ())} test images")
    shapes = {tuple(part.images.shape[1:]) for part in parts}
    if len(shapes) > 1:
        found = " and ".join(map(str, sorted(shapes)))
        raise UserError(f"data: training and test images must have one shape, got {found}")
    every = torch.cat([part.labels for part in parts])
    if (worst := int(every.min())) < 0 or (worst := int(every.max())) >= len(every):
        raise UserError(f"data: label {worst}: labels must be 0 … number of classes − 1")


# ---------------------------------------------------------------------- choosing images


def held_out_split(every: ImageSet, share: float, generator: Generator) -> tuple[ImageSet, ImageSet]:
    """Train and test set, `share` of each class (rounded) in the test set."""
    test = torch.zeros(len(every), dtype=torch.bool)
    sizes = [round(share * count) for count in torch.bincount(every.labels).tolist()]
    test[_pick(every.labels, sizes, generator)] = True
    return every[~test], every[test]


def long_tail(labels: Int[Tensor, " N"], classes: int, imbalance: float, generator: Generator) -> Int[Tensor, " n"]:
    """Rows that leave class c (of C) n₀·ρ^(−c/(C−1)) samples, ρ = `imbalance`, in a random choice.

    n₀ is the size of the smallest class, or where classes differ the largest that every class can serve. The profile
    is that of Cui et al. (2019), "Class-balanced loss based on effective number of samples".
    """
    counts = torch.bincount(labels, minlength=classes).double()
    profile = imbalance ** (-torch.arange(classes, dtype=torch.float64) / max(1, classes - 1))
    return _pick(labels, (float((counts / profile).min()) * profile).round().int().tolist(), generator)


def stratified(labels: Int[Tensor, " N"], classes: int, size: int, generator: Generator) -> Int[Tensor, " n"]:
    """`size` rows in the classes' own proportions, to within one sample a class.

    Raises:
        UserError: fewer samples than `size`.
    """
    if size > len(labels):
        raise UserError(f"data.subset={size}: must be at most {len(labels)}, the training images there are")
    counts = torch.bincount(labels, minlength=classes).double()
    # Rounding the running total hands the remainders out so that the sum is exact.
    ends = (counts.cumsum(0) * size / len(labels)).round()
    return _pick(labels, ends.diff(prepend=ends.new_zeros(1)).int().tolist(), generator)


def _pick(labels: Tensor, sizes: list[int], generator: Generator) -> Tensor:
    """The rows, in order, of a random choice of `sizes[c]` samples of each class c."""
    chosen = []
    for label, size in enumerate(sizes):
        rows = (labels == label).nonzero()[:, 0]
        chosen.append(rows[torch.randperm(len(rows), generator=generator)][:size])
    return torch.cat(chosen).sort().values


# ---------------------------------------------------------------------- augmentation


def augmented(images: UInt8[Tensor, "N c h w"], padding: int, flip: bool, generator: Generator) -> Tensor:
    """Each image shifted by up to `padding` pixels in both directions (black comes in) and flipped half of the time.

    All draws are on the images' device, from `generator`, which must be on it too.
    """
    (count, _, height, width), device = images.shape, images.device

    def draw(below: int) -> Tensor:
        return torch.randint(below, (count,), generator=generator, device=device)

    rows = torch.arange(height, device=device).expand(count, -1)
    columns = torch.arange(width, device=device).expand(count, -1)
    if flip:
        columns = torch.where(draw(2)[:, None] == 1, columns.flip(1), columns)
    if padding:
        images = torch.nn.functional.pad(images, (padding,) * 4)
        rows = rows + draw(2 * padding + 1)[:, None]
        columns = columns + draw(2 * padding + 1)[:, None]
    if not (flip or padding):
        return images
    batch = torch.arange(count, device=device)[:, None, None]
    # Indexing puts the channels last; as a view that is (N, c, h, w) in channels-last memory.
    return images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
