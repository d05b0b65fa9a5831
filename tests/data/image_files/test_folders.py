"""Folders of pictures: what is used for what, which class has which number, what is skipped and what refused."""

import numpy as np
import pytest
from PIL import Image

from repro.data.image_files.folders import in_order
from repro.pipeline.system.errors import UserError

CLASSES = [f"{name}/{n}.png" for name in ("ant", "bee") for n in (0, 1)]


def refused(read, **changes):
    with pytest.raises(UserError) as error:
        read("image_folder", **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def within(*splits):
    return [f"{split}/{path}" for split in splits for path in CLASSES]


def test_classes_alone_are_held_out_from(pictures, read, reds):
    pictures(*CLASSES)
    images, told = read("image_folder")
    assert (len(images.train), len(images.test)) == (2, 2)
    assert sorted(reds(images.train) + reds(images.test)) == [0, 1, 2, 3]
    assert "train: 4 images in ., trained on and, held out, tested on" in told
    assert "2 images to train on, 2 to test on" in told


@pytest.mark.parametrize(
    "name", ["test", "Test", "TEST", "testing", "val", "validation", "valid", "dev", "Val", "eval"]
)
@pytest.mark.parametrize("train", ["train", "Training"])
def test_the_other_split_is_tested_on(pictures, read, reds, train, name):
    pictures(*within(train, name))
    images, told = read("image_folder")
    assert (reds(images.train), reds(images.test)) == ([0, 1, 2, 3], [4, 5, 6, 7])
    split = "test" if name.lower() in ("test", "testing", "eval") else "validation"
    assert f"train: 4 images in {train}, trained on" in told
    assert f"{split}: 4 images in {name}, tested on" in told
    assert images.report["splits"][split] == {"use": "tested on", "files": {name: 4}}
    assert (images.report["trained_on"], images.report["tested_on"]) == (4, 4)


def test_validation_beside_test_is_not_used_and_that_is_said(pictures, read, reds):
    pictures(*within("train", "val", "test"))
    images, told = read("image_folder")
    assert (reds(images.train), reds(images.test)) == ([0, 1, 2, 3], [8, 9, 10, 11])
    assert "validation: 4 images in val, not used, because there is a test set" in told
    assert images.report["splits"]["validation"]["use"] == "not used, because there is a test set"


def test_words_around_the_split(pictures, read, reds):
    pictures(*within("seg_train", "seg_test"))
    images, _ = read("image_folder")
    assert (reds(images.train), reds(images.test)) == ([0, 1, 2, 3], [4, 5, 6, 7])


def test_classes_that_are_called_like_splits(pictures, read):
    pictures("train/0.png", "train/1.png", "bus/0.png", "bus/1.png")  # two classes of CIFAR-100
    assert [of["name"] for of in read("image_folder")[0].report["classes"]] == ["bus", "train"]


def test_such_classes_within_splits(pictures, read, reds):
    pictures(*(f"{split}/{name}/{n}.png" for split in ("train", "test") for name in ("bus", "train") for n in (0, 1)))
    images, _ = read("image_folder")
    assert (reds(images.train), reds(images.test)) == ([0, 1, 2, 3], [4, 5, 6, 7])


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        (within("train", "extra"), "{root}/extra: does not say of which split it is, as train do; name it so, or move"),
        ([*within("train"), "cat/0.png"], "{root}/cat: does not say of which split it is"),
        ([*within("train", "test"), "0.png"], "{root}/0.png: does not say of which split it is; move it there, or"),
        (within("train", "val", "dev"), "val are both of the validation set; leave one"),
        (within("val", "test"), "data.root={root}: holds validation and test, and nothing to train on"),
        (within("train_val", "test"), "{root}/train_val: says train and validation; which of them is it?"),
        (within("A", "B"), "data.root={root}: A and B both hold folders ant, bee; call them train, validation or test"),
        (within("data"), "one class alone, data; is data.root={root}/data meant?"),
        (["ant/0.png"], "one class alone, ant"),
        ([*CLASSES, "0.png"], "{root}/0.png: lies in no class folder"),
        ([*within("train"), "test/0.png"], "{root}/test/0.png: lies in no class folder"),
        (["train/0.png", "test/0.png"], "test, train say test and train, and hold no folder for each class"),
        ([*within("train", "test"), "test/cat/0.png"], "{root}/test/cat: a class that {root}/train does not have; it"),
        (
            [f"{name}/{split}/0.png" for name in ("ant", "bee", "cat") for split in ("train", "test")],
            "data.root={root}: ant and bee both hold folders test, train",
        ),
        (["ant/train/0.png", "bee/1.png"], "train within the class ant says train; splits hold classes"),
    ],
)
def test_names_that_leave_something_open_are_refused(pictures, read, tmp_path, paths, why):
    pictures(*paths)
    assert why.format(root=tmp_path) in refused(read)


def test_what_systems_leave_is_skipped(pictures, read, tmp_path, encoded):
    pictures(*within("train", "test"))
    expected = read("image_folder")
    left = ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints/0-checkpoint.png", "@eaDir/0.png")
    for folder in ("", "train", "train/ant", "test/bee"):
        for name in left:
            file = tmp_path / folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"nothing")
    pictures("__MACOSX/train/ant/0.png", ".git/0.png")
    images, told = read("image_folder")
    assert images.train.images.equal(expected[0].train.images)
    assert (images.report, told) == (expected[0].report, expected[1])
    assert images.report["not_read"] == {}


def test_what_is_no_picture_is_counted(pictures, read, tmp_path):
    pictures(*CLASSES)
    for name in ("README.md", "ant/0.txt", "ant/1.txt", "ant/labels"):
        (tmp_path / name).write_text("")
    images, told = read("image_folder")
    assert images.report["not_read"] == {".txt": 2, "without suffix": 1, ".md": 1}
    assert "not read: 1 × .md, 2 × .txt, 1 × without suffix" in told


def test_an_empty_class_is_named(pictures, read, tmp_path):
    pictures(*within("train", "test"))
    (tmp_path / "train" / "cow").mkdir()
    (tmp_path / "train" / "cow" / ".DS_Store").write_bytes(b"")
    assert refused(read) == f"{tmp_path}/train/cow: a class folder that holds no images"


def test_a_class_that_the_test_set_lacks_is_said(pictures, read):
    pictures(*within("train", "test"), "train/cow/0.png")
    images, told = read("image_folder")
    assert images.report["not_in_test"] == ["cow"]
    assert "not in the test set: cow" in told
    assert images.classes == 3


def test_a_class_left_out_by_the_subset_has_its_name(pictures, read):
    pictures(*within("train", "test"), *(f"train/ant/{n}.png" for n in range(2, 30)))
    assert refused(read, subset=3) == "data: no training image is left of class 1, bee"


def test_names_and_order_of_the_classes(pictures, read):
    pictures(*(f"{split}/{name}/0.png" for split in ("train", "test") for name in ("10", "9", "2", "100", "-1")))
    images, told = read("image_folder")
    assert images.report["classes"] == [
        {"name": name, "train": 1, "test": 1} for name in ("-1", "2", "9", "10", "100")
    ]  # fmt: skip
    # red is the n-th path's: the label of the n-th class is its place in the order of numbers
    reds = images.train.images[:, 0, 0, 0].tolist()
    assert dict(zip(reds, images.train.labels.tolist(), strict=True)) == {0: 3, 1: 2, 2: 1, 3: 4, 4: 0}
    assert "5 classes (train + test): -1 (1 + 1), 2 (1 + 1), 9 (1 + 1), 10 (1 + 1), 100 (1 + 1)" in told


def test_order():
    assert in_order(["b", "a", "C"]) == ["C", "a", "b"]
    assert in_order(["10", "9", "1.5", "-2", "007"]) == ["-2", "1.5", "007", "9", "10"]
    assert in_order(["class_10", "class_9", "class"]) == ["class", "class_9", "class_10"]
    assert in_order(["n02", "n010", "10", "a"]) == ["10", "a", "n02", "n010"]


def test_many_classes_are_counted(pictures, read):
    pictures(*(f"{n}/{m}.png" for n in range(25) for m in (0, 1)))
    images, told = read("image_folder")
    assert "25 classes (train): 0 (2), 1 (2), " in told
    assert told.split("\n")[2].endswith("19 (2) and 5 more")
    assert len(images.report["classes"]) == 25


def test_one_name_written_in_two_ways(pictures, read):
    pictures(
        *(f"train/{name}/0.png" for name in ("caf\u00e9", "tea")),
        *(f"test/{name}/0.png" for name in ("cafe\u0301", "tea")),
    )
    assert [(of["train"], of["test"]) for of in read("image_folder")[0].report["classes"]] == [(1, 1), (1, 1)]


def test_links(pictures, read, tmp_path):
    pictures(*within("elsewhere/train"))
    real = tmp_path / "elsewhere"
    root = tmp_path / "linked"
    root.mkdir()
    (root / "train").symlink_to(real / "train")
    assert len(read("image_folder", root=str(root))[0].train) == 2
    (real / "train" / "ant" / "gone.png").symlink_to(real / "nothing")
    assert refused(read, root=str(root)) == f"{root}/train/ant/gone.png: a link to a file that is not there"
    (real / "train" / "ant" / "gone.png").unlink()
    (real / "train" / "ant" / "round").symlink_to(real / "train")
    assert refused(read, root=str(root)).endswith("train/ant/round: a link to a folder that it is in itself")


def test_suffixes_in_capitals_and_of_formats_that_pillow_reads(read, tmp_path, encoded):
    forms = {
        "a/0.JPG": "JPEG",
        "a/1.tif": "TIFF",
        "a/2.TIFF": "TIFF",
        "b/0.gif": "GIF",
        "b/1.pgm": "PPM",
        "b/2.jfif": "JPEG",
    }
    for path, form in forms.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(encoded((0, 0, 0), form))
    images, _ = read("image_folder")
    assert [of["train"] for of in images.report["classes"]] == [3, 3]


def test_pictures_of_several_sizes_are_named(pictures, read, tmp_path, encoded):
    pictures(*CLASSES)
    (tmp_path / "bee" / "1.png").write_bytes(encoded((0, 0, 0)))
    assert len(read("image_folder")[0].train) == 2
    (tmp_path / "bee" / "1.png").write_bytes(encoded(Image.new("RGB", (4, 3))))
    assert refused(read) == (
        f"data.root={tmp_path}: images of 2 sizes; all must have one ({tmp_path}/bee/0.png has 2 × 2 pixels, "
        f"{tmp_path}/bee/1.png 4 × 3)"
    )
    assert read("image_folder", image_size=5)[0].train.images.shape == (2, 3, 5, 5)


def test_conversions_are_counted_and_kept(pictures, read, tmp_path, encoded):
    pictures(*within("train", "test"))
    (tmp_path / "train" / "ant" / "0.png").write_bytes(encoded(Image.fromarray(np.full((2, 2), 24929, np.uint16))))
    (tmp_path / "train" / "ant" / "1.png").write_bytes(encoded(Image.new("RGBA", (2, 2), (1, 2, 3, 0))))
    (tmp_path / "test" / "bee" / "1.png").write_bytes(encoded(Image.new("RGBA", (2, 2), (1, 2, 3, 0))))
    images, told = read("image_folder", background="black")
    assert images.train.images[0, :, 0, 0].tolist() == [97, 97, 97]
    assert images.train.images[1, :, 0, 0].tolist() == [0, 0, 0]
    assert images.report["conversions"] == {"16 bits scaled to 8": 1, "transparent pixels put on black": 2}
    assert "converted: 1 × 16 bits scaled to 8, 2 × transparent pixels put on black" in told
