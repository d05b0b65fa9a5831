"""Pictures and tables to read, and the settings to read them with."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from repro.data.images import load
from repro.pipeline.settings import ours


def encode(picture, form="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def encoded():
    """A picture as a file's bytes; one of a single colour for a colour."""

    def make(of, form="PNG", **options):
        return encode(of if isinstance(of, Image.Image) else Image.new("RGB", (2, 2), of), form, **options)

    return make


@pytest.fixture
def config(tmp_path):
    def make(kind, **changes):
        return ours("data")[kind](
            **{
                "kind": kind, "root": str(tmp_path), "download": False, "subset": None, "imbalance": 1.0,
                "targets": "one_hot", "held_out": 0.5, "crop_padding": 0, "flip": False, "image_size": None, "seed": 0,
                "background": "white",
            }
            | changes
        )  # fmt: skip

    return make


@pytest.fixture
def read(config):
    """The images, and what was told of them."""

    def make(kind, **changes):
        told = []
        return load(config(kind, **changes), told.append), "\n".join(told)

    return make


@pytest.fixture
def pictures(tmp_path, encoded):
    """Leaves pictures at some paths, the n-th with n as its red; or with what is given by path."""

    def make(*paths, **contents):
        for n, path in enumerate(paths):
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded((n, 0, 0)))

    return make


@pytest.fixture
def table(tmp_path, encoded):
    """Leaves a Parquet file of `count` rows, two classes in turn, the n-th picture with `first` + n as its red."""

    def make(path, count=4, first=0, **columns):
        rows = [{"bytes": encoded((first + n, 0, 0)), "path": None} for n in range(count)]
        content = {"image": rows, "label": np.arange(count) % 2} | columns
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({name: values for name, values in content.items() if values is not None}).to_parquet(file)
        return file

    return make


@pytest.fixture
def reds():
    """The red of the first pixel of each image, sorted."""
    return lambda of: sorted(of.images[:, 0, 0, 0].tolist())
