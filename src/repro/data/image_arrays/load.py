import numpy as np
import torch

from repro.data.image_arrays import Settings
from repro.data.images import ImageSet, Read
from repro.pipeline.system.errors import UserError


def load(settings: Settings) -> Read:
    root = settings.root
    with np.load(root or "") as arrays:
        found = dict(arrays)
    known = ("images", "labels", "test_images", "test_labels")
    if not {"images", "labels"} <= {*found} <= {*known} or ("test_images" in found) != ("test_labels" in found):
        has = ", ".join(found) or "none"
        raise UserError(f"data.root={root}: needs the arrays images and labels, test_images and test_labels; has {has}")
    splits = [
        _of_arrays(root, name, found[f"{name}images"], found[f"{name}labels"])
        for name in ("", "test_")[: len(found) // 2]
    ]
    return Read(splits[0], splits[1] if len(splits) > 1 else None)


def _of_arrays(root: str | None, name: str, images: np.ndarray, labels: np.ndarray) -> ImageSet:
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
