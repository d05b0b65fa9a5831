"""Which sources there are, and what their settings refuse."""

import subprocess
import sys

import pytest

from repro.data.settings import ImageSettings, LinearSettings, PictureSettings, PointSettings
from repro.pipeline.settings import ours

IMAGES = {
    "root": None, "download": False, "subset": None, "imbalance": 1.0, "targets": "one_hot", "held_out": 0.2,
    "crop_padding": 0, "flip": False, "image_size": None, "seed": 0,
}  # fmt: skip
SYNTHETIC = {
    "kind": "synthetic", "in_features": 12, "out_features": 9, "samples": 300, "rank": 4, "noise": 0.0,
    "correlation": 0.0, "whiten": False, "seed": 0,
}  # fmt: skip


def of(kind, **changes):
    ground = {"background": "white"} if kind in ("image_folder", "parquet") else {}
    return ours("data")[kind](**IMAGES | {"kind": kind} | ground | changes)


def test_the_sources():
    kinds = ours("data")
    assert {kind for kind in kinds if issubclass(kinds[kind], LinearSettings)} == {
        "synthetic", "digit_halves", "arrays",
    }  # fmt: skip
    assert {kind for kind in kinds if issubclass(kinds[kind], ImageSettings)} == {
        "mnist5k", "mnist", "fashion_mnist", "cifar10", "cifar100", "parquet", "image_folder", "image_arrays",
    }  # fmt: skip
    assert {kind for kind in kinds if issubclass(kinds[kind], PointSettings)} == {"digit_contours", "landmarks"}
    assert {kind for kind in kinds if issubclass(kinds[kind], PictureSettings)} == {"half_digits", "rings"}


def test_a_rank_above_the_size_is_refused():
    assert ours("data")["synthetic"](**SYNTHETIC | {"rank": 9}).rank == 9
    with pytest.raises(ValueError, match=r"data.rank=10: must be at most 9, the smaller of in_features and out_feat"):
        ours("data")["synthetic"](**SYNTHETIC | {"rank": 10})


@pytest.mark.parametrize("kind", ["parquet", "image_folder"])
def test_files_need_a_folder(kind):
    assert of(kind, root="files").root == "files"
    with pytest.raises(ValueError, match=f"data.root=null: data={kind} needs the folder of the images"):
        of(kind)


@pytest.mark.parametrize("kind", ["mnist5k", "cifar10", "parquet"])
def test_only_folders_resize(kind):
    assert of("image_folder", root="files", image_size=8).image_size == 8
    with pytest.raises(ValueError, match=r"data.image_size=8: only data=image_folder resizes its images"):
        of(kind, root="files", image_size=8)


def test_settings_need_no_torch():
    script = (
        "import sys; from repro.pipeline.settings import ours; ours('data'); print({'torch', 'scipy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
