"""Parquet files: which file is of which split, which shard lacks, which row is at fault, which columns are read."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from repro.pipeline.system.errors import UserError


def refused(read, **changes):
    with pytest.raises(UserError) as error:
        read("parquet", **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("train.parquet", "Test.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("train/part-0.parquet", "test/part-0.parquet"),
        ("train/part-0.parquet", "validation/part-0.parquet"),
        ("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"),
        ("my_train.parq", "my_dev.PARQUET"),
        ("training.parquet", "valid.pq"),
        ("train.parquet", "val.parquet"),
        ("train.parquet", "eval.parquet"),
        ("data/train.parquet", "data/test.parquet"),
    ],
)
def test_a_split_is_what_file_or_folder_says(table, read, reds, train, test):
    table(train)
    table(test, first=100)
    images, told = read("parquet")
    assert (reds(images.train), reds(images.test)) == ([0, 1, 2, 3], [100, 101, 102, 103])
    assert f"train: 4 images in {train}, trained on" in told
    assert f": 4 images in {test}, tested on" in told
    assert images.report["splits"]["train"] == {"use": "trained on", "files": {train: 4}}


def test_validation_and_test_side_by_side_stay_apart(table, read, reds):
    table("train-00000-of-00001.parquet")
    table("validation-00000-of-00001.parquet", first=50).write_bytes(b"not looked at")
    table("test-00000-of-00001.parquet", first=100)
    images, told = read("parquet")
    assert (reds(images.train), reds(images.test)) == ([0, 1, 2, 3], [100, 101, 102, 103])
    assert "validation: validation-00000-of-00001.parquet, not used, because there is a test set" in told


def test_files_that_say_nothing_are_held_out_from(table, read, reds):
    table("0000.parquet")
    table("0001.parquet", first=4)
    images, told = read("parquet")
    assert (len(images.train), len(images.test)) == (4, 4)
    assert "train: 8 images in 0000.parquet and 1 more, trained on and, held out, tested on" in told


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        (
            ["train.parquet", "extra.parquet"],
            "{root}/extra.parquet: does not say of which split it is, as train.parquet",
        ),
        (["test/train.parquet", "train/a.parquet"], "{root}/test/train.parquet: says test and train; which of them"),
        (["a/train.parquet", "b/train.parquet"], "holds data sets side by side, in {root}/a and {root}/b; say which"),
        (["test.parquet"], "data.root={root}: holds test, and nothing to train on"),
        (["train-00000-of-00002.parquet"], "train-00000-of-00002.parquet: 1 of 2 shards not there: number 1, counted"),
        (["train-00001-of-00003.parquet"], "2 of 3 shards not there: number 0, 2, counted from 0"),
        (["train/0000.parquet", "train/0002.parquet"], "1 of 3 shards not there: number 1, counted from 0"),
        (["train-1-of-3.parquet", "train-3-of-3.parquet"], "1 of 3 shards not there: number 2, counted from 1"),
        (["train.parquet", "test-00001-of-00002.parquet"], "test-00001-of-00002.parquet: 1 of 2 shards not there"),
        (
            ["train-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
            "train-00000-of-00001.parquet and train-00000-of-00002.parquet: shards of two exports; leave those of one",
        ),
        (
            ["train-00000-of-00001.parquet", "train-00000-of-00001-1f2e.parquet"],
            "train-00000-of-00001.parquet: the same shard twice; leave one",
        ),
        ([], "data.root={root}: holds no Parquet files"),
    ],
)
def test_names_that_leave_something_open_are_refused(table, read, tmp_path, paths, why):
    for path in paths:
        table(path)
    assert why.format(root=tmp_path) in refused(read)


def test_shards_that_are_all_there_and_files_by_year(table, read, reds):
    for n in range(3):
        table(f"train-0000{n}-of-00003.parquet", first=10 * n, count=2)
    for n in (1, 2):
        table(f"test/part-{n}-of-2.parquet", first=30 + n, count=1)
    for year in (2015, 2018):
        table(f"test/{year}.parquet", first=year - 1900, count=1)
    images, _ = read("parquet")
    assert (reds(images.train), reds(images.test)) == ([0, 1, 10, 11, 20, 21], [31, 32, 115, 118])


def test_a_pointer_of_git_lfs_is_called_that(table, read, tmp_path):
    table("train-00000-of-00002.parquet")
    file = tmp_path / "train-00001-of-00002.parquet"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    assert refused(read) == f"{file}: a Git LFS pointer in place of the shard; `git lfs pull` fetches it"


def test_the_shard_and_the_row_in_it_are_named(table, read, tmp_path, encoded):
    table("train-00000-of-00002.parquet", count=60)
    rows = [{"bytes": encoded((0, 0, 0)), "path": None}] * 60
    rows[7] = {"bytes": b"no", "path": None}
    file = table("train-00001-of-00002.parquet", count=60, image=rows)
    assert refused(read).startswith(f"{file}, row 7: not an image that can be read")
    rows[7] = {"bytes": None, "path": None}
    table("train-00001-of-00002.parquet", count=60, image=rows)
    assert refused(read) == f"{file}, row 7: holds no image, neither bytes nor a path"
    rows[7] = None
    table("train-00001-of-00002.parquet", count=60, image=rows)
    assert refused(read) == f"{file}, row 7: holds no image, neither bytes nor a path"


def test_the_shard_of_a_missing_label_is_named(table, read):
    table("train-00000-of-00002.parquet")
    file = table("train-00001-of-00002.parquet", label=pd.array([0, 1, None, 1], dtype="Int64"))
    assert refused(read) == f"{file}: column label must hold whole numbers, none missing (row 2); it is int64"


def test_only_the_two_columns_are_read(table, read, reds):
    extra = pa.array([[0.5], [1.0, 2.0], [], None], pa.list_(pa.float64()))
    for name in ("train.parquet", "test.parquet"):
        file = table(name)
        whole = pq.read_table(file)
        metadata = {
            b"pandas": json.dumps({"columns": [{"name": "box", "pandas_type": "?", "numpy_type": "list<double>"}]})
        }
        pq.write_table(whole.append_column("box", extra).replace_schema_metadata(metadata), file)
    with pytest.raises((TypeError, KeyError, ValueError)):
        pd.read_parquet(file)  # the control
    assert reds(read("parquet")[0].train) == [0, 1, 2, 3]


@pytest.mark.parametrize("form", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_raw_bytes(tmp_path, read, reds, encoded, form):
    cells = pa.array([encoded((n, 0, 0)) for n in range(4)], form)
    pq.write_table(pa.table({"image": cells, "label": pa.array([0, 1, 0, 1], pa.uint8())}), tmp_path / "train.parquet")
    images, _ = read("parquet")
    assert sorted(reds(images.train) + reds(images.test)) == [0, 1, 2, 3]
    assert images.train.labels.dtype == torch.int64


@pytest.mark.parametrize("cell", [str, lambda path: {"path": path}, lambda path: {"bytes": None, "path": path}])
@pytest.mark.parametrize("folder", ["", "data/"])
def test_paths_beside_the_file(table, pictures, read, reds, cell, folder):
    pictures(*(f"{folder}pictures/{n}.png" for n in range(4)))
    cells = [cell(f"pictures/{n}.png") for n in range(4)]
    file = table(f"{folder}train.parquet", image=cells)
    images, _ = read("parquet")
    assert sorted(reds(images.train) + reds(images.test)) == [0, 1, 2, 3]
    cells[2] = cell("pictures/9.png")
    table(f"{folder}train.parquet", image=cells)
    assert refused(read) == f"{file}, row 2: holds no image's bytes, and pictures/9.png is not beside the file"


@pytest.mark.parametrize("path", ["../out.png", "{root}/../out.png"])
def test_a_path_does_not_lead_out_of_the_folder(table, read, tmp_path, encoded, path):
    (tmp_path / "out.png").write_bytes(encoded((0, 0, 0)))
    path = path.format(root=tmp_path / "in")
    table("in/train.parquet", image=[{"path": path}] * 4)
    assert f"row 0: holds no image's bytes, and {path} is not beside the file" in refused(
        read, root=str(tmp_path / "in")
    )


def hub(file, names, image="image", label="label"):
    """Notes the features of a file, as `datasets` does."""
    whole = pq.read_table(file)
    features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
    text = json.dumps({"info": {"features": features}})
    pq.write_table(whole.replace_schema_metadata({b"huggingface": text}), file)


def test_the_names_of_classes_that_a_file_notes(table, read, tmp_path):
    for name in ("train.parquet", "test.parquet"):
        hub(table(name), ["zebra", "ant"])
    images, told = read("parquet")
    assert images.report["classes"] == [
        {"name": "zebra", "train": 2, "test": 2}, {"name": "ant", "train": 2, "test": 2},
    ]  # fmt: skip
    assert "2 classes (train + test): zebra (2 + 2), ant (2 + 2)" in told
    hub(table("test.parquet"), ["ant", "zebra"])
    assert "test.parquet: names its classes ('ant', 'zebra'), " in refused(read)
    for name in ("train.parquet", "test.parquet"):
        hub(table(name), ["zebra"])
    assert "train.parquet, row 1: label 1; the file names 1 classes" in refused(read)


def test_without_names_classes_are_numbers(table, read):
    table("train.parquet", label=[0, 1, 2, 2])
    table("test.parquet")
    images, _ = read("parquet")
    assert [of["name"] for of in images.report["classes"]] == ["0", "1", "2"]
    assert images.report["not_in_test"] == ["2"]


def test_columns_of_other_names_that_the_file_declares(table, read, reds, encoded):
    for name in ("train.parquet", "test.parquet"):
        cells = [{"bytes": encoded((n, 0, 0)), "path": None} for n in range(4)]
        hub(table(name, image=None, label=None, photo=cells, kind=[0, 1, 0, 1]), ["a", "b"], "photo", "kind")
    assert reds(read("parquet")[0].train) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"label": None}, "needs columns img or image, and label or fine_label; it has image"),
        (
            {"image": None, "pixels": [0] * 4},
            "needs columns img or image, and label or fine_label; it has label, pixels",
        ),
        ({"img": [b""] * 4}, "holds columns img and image; which of them is it? Leave one"),
        ({"image": [1.5] * 4}, "column image must hold {bytes, path}, bytes or paths; it is double"),
        ({"label": ["a", "b"] * 2}, "column label must hold whole numbers, none missing; it is "),
        ({"label": [0.0, 1.0] * 2}, "column label must hold whole numbers, none missing; it is double"),
    ],
)
def test_columns_that_are_not_what_is_needed(table, read, columns, why):
    file = table("train.parquet", **columns)
    assert refused(read).startswith(f"{file}: {why}")


def test_no_rows(table, read, tmp_path):
    table("train.parquet", count=0)
    assert refused(read) == f"data.root={tmp_path}: holds no rows"


@pytest.mark.parametrize("content", [b"", b"hello", b"PAR1" * 9])
def test_a_file_that_is_no_parquet(table, read, tmp_path, content):
    table("train-00000-of-00002.parquet")
    file = tmp_path / "train-00001-of-00002.parquet"
    file.write_bytes(content)
    assert refused(read).startswith(f"{file}: cannot be read as parquet (")


def test_what_others_leave_is_skipped(table, read, tmp_path):
    table("train.parquet")
    for name in ("._train.parquet", "_temporary/train.parquet", ".cache/train.parquet", "_SUCCESS", "Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no")
    (tmp_path / "README.md").write_text("")
    images, _ = read("parquet")
    assert (len(images.train), images.report["not_read"]) == (2, {".md": 1})


def test_row_groups(table, read, reds, tmp_path):
    file = table("train.parquet", count=6)
    table("test.parquet")
    pq.write_table(pq.read_table(file), file, row_group_size=2)
    assert reds(read("parquet")[0].train) == [0, 1, 2, 3, 4, 5]
