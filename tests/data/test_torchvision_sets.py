"""Sets of torchvision's: what is not there, what is there in part, what is damaged."""

import hashlib
import pickle
import struct

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets import cifar as cifar_module

from repro.data.images import load
from repro.pipeline.settings import ours
from repro.pipeline.system.errors import UserError


def read(kind, root, download=False):
    return load(
        ours("data")[kind](
            kind=kind, root=str(root), download=download, subset=None, imbalance=1.0, targets="one_hot", held_out=0.2,
            crop_padding=0, flip=False, image_size=None, seed=0,
        )
    )  # fmt: skip


def refused(*arguments, **options):
    with pytest.raises(UserError) as error:
        read(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """CIFAR-10 and CIFAR-100 of two images a file, with their hashes taken for the published ones."""
    for reader in (CIFAR10, CIFAR100):
        folder = tmp_path / reader.base_folder
        folder.mkdir()

        def leave(name, content, folder=folder):
            (folder / name).write_bytes(pickle.dumps(content))
            return hashlib.md5((folder / name).read_bytes()).hexdigest()

        images = {
            "data": np.arange(2 * 3072).reshape(2, 3072).astype(np.uint8),
            "labels": [0, 1],
            "fine_labels": [0, 1],
        }
        for part in ("train_list", "test_list"):
            monkeypatch.setattr(reader, part, [[name, leave(name, images)] for name, _ in getattr(reader, part)])
        names = leave(reader.meta["filename"], {reader.meta["key"]: ["a", "b"]})
        monkeypatch.setattr(reader, "meta", reader.meta | {"md5": names})
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "folder", "count"), [("cifar10", "cifar-10-batches-py", 10), ("cifar100", "cifar-100-python", 2)]
)
def test_cifar(cifar, kind, folder, count):
    images = read(kind, cifar)
    assert (len(images.train), len(images.test)) == (count, 2)
    assert images.train.images.shape == (count, 3, 32, 32)
    assert images.train.images[0, 1, 0, :3].tolist() == [0, 1, 2]  # 1024 = 0 in a byte
    name = kind.upper()
    files = sorted((cifar / folder).iterdir())
    for file in files:
        whole = file.read_bytes()
        for content in (whole[:-5], b"", b"hello"):
            file.write_bytes(content)
            assert refused(kind, cifar) == (
                f"{file}: damaged or cut off, not {name}'s as published; remove it, and data.download=true fetches it"
            )
        file.unlink()
        what = f"holds {name} in part, {folder}/{file.name} is not there; data.download=true fetches it"
        assert refused(kind, cifar) == f"data.root={cifar}: {what}"
        file.write_bytes(whole)
    assert len(read(kind, cifar).train) == count
    for file in files:
        file.unlink()
    what = f"holds no {name}; data.download=true fetches it, data=mnist5k needs no files"
    assert refused(kind, cifar) == f"data.root={cifar}: {what}"


def test_what_cannot_be_fetched(tmp_path, monkeypatch):
    def nobody(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(cifar_module, "download_and_extract_archive", nobody)
    what = "holds no CIFAR10, and it cannot be fetched (no route to host); data=mnist5k needs no files"
    assert refused("cifar10", tmp_path, download=True) == f"data.root={tmp_path}: {what}"


@pytest.mark.parametrize(("kind", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist(tmp_path, kind, folder):
    def leave(part, shape):
        file = tmp_path / folder / "raw" / f"{part}-idx{len(shape)}-ubyte"
        file.parent.mkdir(parents=True, exist_ok=True)
        content = bytes(n % 10 for n in range(int(np.prod(shape))))
        file.write_bytes(struct.pack(f">{1 + len(shape)}I", 0x0800 | len(shape), *shape) + content)
        return file

    files = [leave(f"{part}-images", (20, 28, 28)) for part in ("train", "t10k")]
    files += [leave(f"{part}-labels", (20,)) for part in ("train", "t10k")]
    images = read(kind, tmp_path)
    assert images.train.images[0, 0, 0, :3].tolist() == [0, 1, 2]
    for file in files:
        whole = file.read_bytes()
        for content in (whole[:-5], whole[:6], b"", b"hello there", whole + b"more"):
            file.write_bytes(content)
            assert refused(kind, tmp_path).startswith(f"{file}: damaged or cut off, not "), content[:20]
        file.unlink()
        assert f"in part, {file.relative_to(tmp_path)} is not there" in refused(kind, tmp_path)
        file.write_bytes(whole)
    leave("train-labels", (19,))
    assert refused(kind, tmp_path) == f"data.root={tmp_path}: {folder} holds 20 images and 19 labels"
