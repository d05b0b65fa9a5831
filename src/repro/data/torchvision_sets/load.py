from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor
from torchvision.datasets.utils import check_integrity

from repro.data.images import ImageSet, Read
from repro.data.torchvision_sets import Settings
from repro.pipeline.system.errors import UserError

READERS = {"mnist": MNIST, "fashion_mnist": FashionMNIST, "cifar10": CIFAR10, "cifar100": CIFAR100}


def load(settings: Settings) -> Read:
    reader, root = READERS[settings.kind], settings.root or "data"

    def read(train: bool) -> ImageSet:
        try:
            found = reader(root, train=train, download=settings.download)
        except Exception as error:  # a damaged file is read in as many ways as there are damages
            _name_what_is_wrong(reader, Path(root), settings.download, error)
            raise
        images = torch.as_tensor(found.data)
        if len(images) != len(found.targets):
            counts = f"{len(images)} images and {len(found.targets)} labels"
            raise UserError(f"data.root={root}: {reader.__name__} holds {counts}")
        images = images.permute(0, 3, 1, 2).contiguous() if images.ndim == 4 else images[:, None]
        return ImageSet(images, torch.as_tensor(found.targets, dtype=torch.int64))

    return Read(read(True), read(False))


def _name_what_is_wrong(reader: type[MNIST] | type[CIFAR10], root: Path, fetched: bool, error: Exception) -> None:
    """A `UserError` where files of the set are not there, or are not those that were published."""
    name, files = reader.__name__, _files(reader, root)
    absent = [file for file in files if not file.is_file()]
    if len(absent) == len(files):
        reason = f", and it cannot be fetched ({' '.join(str(error).split())[:200]})" if fetched else ""
        hint = "" if fetched else "data.download=true fetches it, "
        raise UserError(f"data.root={root}: holds no {name}{reason}; {hint}data=mnist5k needs no files") from error
    if absent:
        what = f"holds {name} in part, {absent[0].relative_to(root)} is not there"
        raise UserError(f"data.root={root}: {what}; data.download=true fetches it") from error
    for file, whole in files.items():
        if not whole(file):
            what = f"{file}: damaged or cut off, not {name}'s as published"
            raise UserError(f"{what}; remove it, and data.download=true fetches it") from error


def _files(reader: type[MNIST] | type[CIFAR10], root: Path) -> dict[Path, Callable[[Path], bool]]:
    """The files of a set, and what tells whether one is whole: its published hash, of MNIST its stated size."""
    if issubclass(reader, CIFAR10):
        hashes = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
        return {root / reader.base_folder / name: partial(check_integrity, md5=md5) for name, md5 in hashes}
    folder = root / reader.__name__ / "raw"
    return {folder / name.removesuffix(".gz"): _is_whole for name, _ in reader.resources}


def _is_whole(file: Path) -> bool:
    try:
        read_sn3_pascalvincent_tensor(str(file))
    except Exception:  # as above
        return False
    return True
