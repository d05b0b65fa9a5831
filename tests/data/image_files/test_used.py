"""The fingerprint rests on the files that are used, and on no other."""

import pytest
from PIL import Image


def changes(config, kind):
    """Whether the content has changed, from call to call."""
    seen = [config(kind).content]

    def changed():
        seen.append(config(kind).content)
        return seen[-1] != seen[-2]

    return changed


def test_folders(pictures, config, tmp_path, encoded):
    pictures(*(f"{split}/{name}/0.png" for split in ("train", "val", "test") for name in ("ant", "bee")))
    changed = changes(config, "image_folder")
    for name in ("val/bee/0.png", "val/bee/1.png"):
        (tmp_path / name).write_bytes(encoded((9, 9, 9)))
        assert not changed()
    for name in ("train/ant/._0.png", "README.md", "train/ant/Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
        assert not changed()
    for name in ("train/bee/0.png", "test/bee/0.png"):
        (tmp_path / name).write_bytes(encoded((9, 9, 9)))
        assert changed()
    (tmp_path / "train/bee/deeper").mkdir()
    (tmp_path / "train/bee/deeper/2.tif").write_bytes(encoded((9, 9, 9), "TIFF"))
    assert changed()
    (tmp_path / "train/bee").rename(tmp_path / "train/cow")
    (tmp_path / "test/bee").rename(tmp_path / "test/cow")
    assert changed()


def test_tables(table, config, tmp_path):
    for name, first in (("train", 0), ("validation", 10), ("test", 20)):
        table(f"{name}.parquet", first=first)
    changed = changes(config, "parquet")
    table("validation.parquet", first=50)
    assert not changed()
    (tmp_path / "0.png").write_bytes(b"")
    assert not changed()
    for name in ("train", "test"):
        table(f"{name}.parquet", first=60)
        assert changed()


@pytest.mark.parametrize("bytes_too", [False, True])
def test_pictures_that_a_table_names(table, pictures, config, tmp_path, encoded, bytes_too):
    pictures(*(f"{n}.png" for n in range(4)))
    content = {"bytes": encoded((0, 0, 0))} if bytes_too else {}
    table("train.parquet", image=[content | {"path": f"{n}.png"} for n in range(4)])
    changed = changes(config, "parquet")
    Image.new("RGB", (2, 2), (9, 9, 9)).save(tmp_path / "2.png")
    assert changed() is not bytes_too
