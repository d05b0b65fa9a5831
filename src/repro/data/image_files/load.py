from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from repro.data.image_files import SUFFIXES, Settings
from repro.data.images import ImageSet, Read
from repro.pipeline.system.errors import UserError


def load(settings: Settings) -> Read:
    root = Path(settings.root or "")
    if settings.kind == "image_arrays":
        return _from_arrays(root)
    return _from_folders(root, settings.image_size) if settings.kind == "image_folder" else _from_tables(root)


def _from_arrays(root: Path) -> Read:
    with np.load(root) as arrays:
        found = dict(arrays)
    known = ("images", "labels", "test_images", "test_labels")
    if not {"images", "labels"} <= {*found} <= {*known} or ("test_images" in found) != ("test_labels" in found):
        has = ", ".join(found) or "none"
        raise UserError(f"data.root={root}: needs the arrays images and labels, test_images and test_labels; has {has}")
    splits = [
        _of_arrays(root, name, found[f"{name}images"], found[f"{name}labels"])
        for name in ("", "test_")[: len(found) // 2]
    ]
    return splits[0], (splits[1] if len(splits) > 1 else None)


def _of_arrays(root: Path, name: str, images: np.ndarray, labels: np.ndarray) -> ImageSet:
    size = " × ".join(map(str, images.shape))
    if images.ndim != 4 or (images.shape[-1] <= 4 < images.shape[1]):
        raise UserError(f"data.root={root}: {name}images must be N × channels × height × width; they are {size}")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        wanted, got = f"{len(images)} whole numbers", f"{' × '.join(map(str, labels.shape))} of type {labels.dtype}"
        raise UserError(f"data.root={root}: {name}labels must be {wanted}; they are {got}")
    if images.dtype.kind == "f" and (images >= 0).all() and (images <= 1).all():
        images = np.rint(255 * images).astype(np.uint8)
    if images.dtype != np.uint8:
        raise UserError(f"data.root={root}: {name}images must be bytes (uint8), or floats in [0, 1]")
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def _from_folders(root: Path, side: int | None) -> Read:
    splits = [root / "train", root / "test"] if (root / "train").is_dir() else [root]
    names = sorted(path.name for path in splits[0].iterdir() if path.is_dir()) if splits[0].is_dir() else []
    if not names:
        raise UserError(f"data.root={root}: holds no folder for each class")
    for path in splits[-1].iterdir() if splits[-1].is_dir() else ():
        if path.is_dir() and path.name not in names:
            raise UserError(f"{path}: a class that {splits[0]} does not have; it has {', '.join(names)}")

    def read(folder: Path) -> ImageSet:
        files = [path for n in names for path in sorted((folder / n).glob("*")) if path.suffix.lower() in SUFFIXES]
        if not files:
            raise UserError(f"data.root={root}: holds no images in {folder}")
        return _decoded(files, files, np.searchsorted(names, [path.parent.name for path in files]), folder, side)

    return read(splits[0]), (read(splits[1]) if len(splits) == 2 and splits[1].is_dir() else None)


def _from_tables(root: Path) -> Read:
    files = sorted(root.rglob("*.parquet")) if root.is_dir() else []
    test = [file for file in files if file.name.startswith(("test", "valid"))]
    train = [file for file in files if file not in test]
    if not train:
        raise UserError(f"data.root={root}: holds no train*.parquet")
    return _from_table(train), (_from_table(test) if test else None)


def _from_table(files: list[Path]) -> ImageSet:
    table, first = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True), files[0]
    image = next((c for c in ("img", "image") if c in table), None)
    label = next((c for c in ("label", "fine_label") if c in table), None)
    if image is None or label is None:
        has = ", ".join(map(str, table))
        raise UserError(f"{first}: needs columns img or image, and label or fine_label; it has {has}")
    if not pd.api.types.is_integer_dtype(table[label]) or table[label].isna().any():
        raise UserError(f"{first}: column {label} must hold whole numbers, none missing; it is {table[label].dtype}")
    encoded = [cell.get("bytes") if isinstance(cell, dict) else None for cell in table[image]]
    if (row := next((n for n, content in enumerate(encoded) if not isinstance(content, bytes)), None)) is not None:
        raise UserError(f"{first}: column {image} must hold {{bytes, path}} with the image's bytes; row {row} does not")
    names = (f"{first}, row {row}" for row in range(len(encoded)))
    return _decoded([BytesIO(content or b"") for content in encoded], names, table[label].to_numpy(np.int64), first)


def _decoded(
    files: Sequence[Path | BytesIO], names: Iterable[object], labels: np.ndarray, source: Path, side: int | None = None
) -> ImageSet:
    """Pictures of one size, resized to `side` × `side` where that is given, in RGB."""

    def pixels(file: Path | BytesIO, name: object) -> np.ndarray:
        try:
            picture = Image.open(file).convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's word for a broken PNG
            raise UserError(f"{name}: not an image that can be read") from error
        return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR) if side else picture)

    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(pixels, files, names))
    if len(sizes := {picture.shape for picture in pictures}) > 1:
        raise UserError(f"{source}: images of {len(sizes)} sizes; all must have one")
    return ImageSet(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels))
