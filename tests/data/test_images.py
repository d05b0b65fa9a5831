"""Image sets: what is read, split, thinned and augmented."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from repro.data.images import ImageSet, augmented, held_out_split, load, long_tail, stratified
from repro.pipeline.settings import ours
from repro.pipeline.system.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")


def config(kind="mnist5k", **changes):
    return ours("data")[kind](
        **{
            "kind": kind, "root": None, "download": False, "subset": None, "imbalance": 1.0, "targets": "one_hot",
            "held_out": 0.2, "crop_padding": 0, "flip": False, "image_size": None, "seed": 0,
        }
        | ({"background": "white"} if kind in ("image_folder", "parquet") else {})
        | changes
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return load(config())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mnist5k_has_a_balanced_split_without_overlap(digits):
    assert digits.train.images.shape == (4000, 1, 28, 28)
    assert torch.bincount(digits.train.labels).tolist() == [400] * 10
    assert torch.bincount(digits.test.labels).tolist() == [100] * 10
    train = {image.numpy().tobytes() for image in digits.train.images}
    assert not train & {image.numpy().tobytes() for image in digits.test.images}


def test_normalized_images_have_mean_0_and_variance_1(digits):
    pixels = digits.normalized(digits.train.images).double()
    assert float(pixels.mean()) == pytest.approx(0, abs=1e-5)
    assert float(pixels.square().mean()) == pytest.approx(1, abs=1e-5)


def test_the_split_follows_its_seed(digits):
    assert torch.equal(load(config()).train.images, digits.train.images)
    assert not torch.equal(load(config(seed=1)).train.images, digits.train.images)


def test_centred_targets_have_mean_zero():
    images = load(config(targets="centred", imbalance=5.0))
    Y = images.targets[images.train.labels]
    assert Y.mean(0).abs().max() < 1e-6
    assert torch.linalg.matrix_rank(Y) == 9


def test_long_tail():
    labels = torch.arange(10).repeat_interleave(100)
    counts = torch.bincount(labels[long_tail(labels, 10, 10.0, generator())])
    assert counts.tolist() == [round(100 * 10 ** (-c / 9)) for c in range(10)]
    assert not torch.equal(long_tail(labels, 10, 10.0, generator(1)), long_tail(labels, 10, 10.0, generator()))


def test_stratified_subset():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    chosen = stratified(labels, 3, 50, generator())
    assert torch.bincount(labels[chosen]).tolist() == [30, 15, 5]
    assert len(chosen.unique()) == 50
    with pytest.raises(UserError, match=r"data.subset=101: must be at most 100"):
        stratified(labels, 3, 101, generator())


def test_a_subset_that_leaves_a_class_empty_is_refused():
    with pytest.raises(UserError, match="no training image is left of class"):
        load(config(subset=5))


def test_held_out_split_takes_the_share_of_every_class():
    labels = torch.tensor([0] * 20 + [1] * 10)
    train, test = held_out_split(ImageSet(torch.zeros(30, 1, 2, 2, dtype=torch.uint8), labels), 0.3, generator())
    assert torch.bincount(test.labels).tolist() == [6, 3]
    assert len(train) == 21


def test_augmentation_shifts_and_flips():
    images = torch.arange(1, 17, dtype=torch.uint8).view(1, 1, 4, 4).expand(200, -1, -1, -1)
    moved = augmented(images, 1, True, generator())
    padded = torch.nn.functional.pad(images[0, 0], (1, 1, 1, 1))
    allowed = {
        crop.numpy().tobytes()
        for y in range(3)
        for x in range(3)
        for crop in [padded[y : y + 4, x : x + 4].contiguous()]
    }
    allowed |= {np.frombuffer(c, np.uint8).reshape(4, 4)[:, ::-1].tobytes() for c in list(allowed)}
    seen = {image.contiguous().numpy().tobytes() for image in moved[:, 0]}
    assert seen == allowed  # 18 of them, each in about 11 of 200
    assert torch.equal(moved, augmented(images, 1, True, generator()))
    assert not torch.equal(moved, augmented(images, 1, True, generator(1)))
    assert augmented(images, 0, False, generator()) is images


def encoded(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_parquet_in_the_hubs_layout(tmp_path):
    for split, count in (("train", 6), ("test", 4)):
        rows = [{"bytes": encoded((i, 0, 9)), "path": None} for i in range(count)]
        frame = pd.DataFrame({"image": rows, "label": [i % 2 for i in range(count)]})
        frame.to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
    images = load(config("parquet", root=str(tmp_path)))
    assert (len(images.train), len(images.test)) == (6, 4)
    assert images.train.images[3, :, 0, 0].tolist() == [3, 0, 9]
    assert images.train.images.shape == (6, 3, 4, 5)


def test_image_folder_is_resized_and_split(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for i in range(5):
            (tmp_path / name / f"{i}.png").write_bytes(encoded((label * 100, i, 0)))
    images = load(config("image_folder", root=str(tmp_path), image_size=8))
    assert (len(images.train), len(images.test)) == (8, 2)
    assert images.train.images.shape == (8, 3, 8, 8)
    assert set(images.train.images[images.train.labels == 1][:, 0, 0, 0].tolist()) == {100}


@pytest.mark.parametrize("kind", ["mnist", "cifar10", "parquet", "image_folder"])
def test_absent_files_are_one_line(kind, tmp_path):
    with pytest.raises(UserError) as error:
        load(config(kind, root=str(tmp_path)))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
    if kind in ("mnist", "cifar10"):
        assert "data.download=true" in str(error.value)


@needs_shared
def test_mnist_in_torchvisions_layout():
    images = load(config("mnist", root=str(SHARED)))
    assert (len(images.train), len(images.test), images.classes) == (60000, 10000, 10)


@needs_shared
def test_cifar10_as_jpeg():
    images = load(config("parquet", root=str(SHARED / "cifar10-jpeg"), subset=1000))
    assert images.train.images.shape == (1000, 3, 32, 32)
    assert torch.bincount(images.train.labels).tolist() == [100] * 10
    assert len(images.test) == 10000
