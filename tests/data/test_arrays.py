"""The user's own arrays: the same numbers whatever the file, known by what is in it, and every mistake one line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from repro.data import images, linear
from repro.pipeline import cli, settings
from repro.pipeline.settings import ours
from repro.pipeline.store import Run
from repro.pipeline.system.errors import UserError

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.standard_normal((7, 30)), RANDOM.standard_normal((4, 30))
QUICK = ["scale=smoke", "device=cpu", "tracking.mode=disabled", "training.steps=6", "training.log_points=2", "seed=0"]
OWN = ["data=arrays", "data.X=X.npy", "data.Y=Y.npy"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def put(x=X, y=Y):
    np.save("X.npy", x)
    np.save("Y.npy", y)


def arrays(X="X.npy", Y="Y.npy", samples=None):
    return ours("data")["arrays"](kind="arrays", X=X, Y=Y, samples=samples, whiten=False)


WRITTEN = {
    "npy": lambda: (put(), arrays()),
    "in rows": lambda: (put(X.T, Y.T), arrays()),
    "one npz": lambda: (np.savez("both.npz", X=X, Y=Y), arrays("both.npz", "both.npz")),
    "named": lambda: (np.savez("both.npz", a=X, Y=X, b=Y), arrays("both.npz:a", "both.npz:b")),
    "an npz each": lambda: (np.savez("X.npz", X), np.savez("Y.npz", Y), arrays("X.npz", "Y.npz")),
    "csv": lambda: (
        np.savetxt("X.csv", X.T, fmt="%.17g", delimiter=","),
        pd.DataFrame(Y.T, columns=list("abcd")).to_csv("Y.csv", index=False, sep=";"),
        arrays("X.csv", "Y.csv"),
    ),
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=list(WRITTEN))
def test_the_same_numbers_from_any_file(written):
    data = linear.load(written()[-1])
    for found, given in zip(data, (X, Y), strict=True):
        torch.testing.assert_close(found, torch.from_numpy(given / np.linalg.norm(given, 2)))


def test_which_side_the_samples_are_on():
    put(X[:4, :4], Y[:, :4])
    with pytest.raises(UserError, match="X 4 × 4 and Y 4 × 4 fit on both sides: columns or rows"):
        linear.load(arrays())
    columns, rows = (linear.load(arrays(samples=side)) for side in ("columns", "rows"))
    assert torch.equal(columns.X.T, rows.X)
    assert not torch.equal(columns.X, rows.X)
    put(X, Y[0])  # one target a sample
    assert linear.load(arrays()).Y.shape == (1, 30)


def test_a_run_is_known_by_what_the_files_hold():
    def fingerprint(*typed):
        return Run(settings.load(["experiment=rank_collapse", *QUICK, *OWN, *typed])).place.fingerprint

    put()
    first, data = fingerprint(), linear.load(arrays())
    Path("moved").mkdir()
    for name in ("X.npy", "Y.npy"):
        Path(name).rename(f"moved/{name}")
    assert fingerprint("data.X=moved/X.npy", "data.Y=moved/Y.npy") == first
    put(2 * X + 1)
    assert fingerprint() != first
    assert not torch.equal(linear.load(arrays()).X, data.X)  # nor is the old one answered from memory


def test_a_file_that_changes_after_the_command_was_started():
    put()
    found = arrays()
    put(X + 1)
    with pytest.raises(UserError, match=r"data\.X=X\.npy: has changed since this command was started"):
        linear.load(found)


@pytest.mark.parametrize(
    ("experiment", "typed"),
    [
        ("rank_collapse", ["model.width=8", "dropout.block_size=4", "dropout.p=0.5"]),
        ("global_minimum", ["model.width=8", "dropout.block_size=4", "dropout.p=0.5", "options.width_needed=null"]),
        ("any_dropout", ["model.width=8", "dropout.retain=0.5", "options.monte_carlo_masks=64"]),
        ("dropconnect", ["model.width=8", "dropout.retain=0.5", "options.monte_carlo_masks=64"]),
        ("wide_networks", ["model.width=8", "dropout.block_size=4"]),
        ("deep_linear_collapse", ["model.width=4", "model.depth=2", "dropout.retain=0.5"]),
        ("deep_linear_regularizer", ["model.width=4", "model.depth=2", "options.random_networks=20"]),
    ],
)
def test_every_linear_experiment_takes_them(experiment, typed, capsys):
    put()
    assert cli.run([f"experiment={experiment}", *QUICK, *OWN, *typed, "figures=false"]) == 0, capsys.readouterr().err


def broken(name, content):
    Path(name).write_text(content, encoding="utf-8")
    return [f"data.X={name}"]


MISTAKES = {
    "none": (lambda: ["data.X=null"], "data.X=null: data=arrays needs two files"),
    "not there": (lambda: ["data.X=x.npy"], "data.X=x.npy: No such file or directory"),
    "another kind": (lambda: ["data.X=X.mat"], "data.X=X.mat: must be a file that ends in .npy, .npz, .csv"),
    "damaged": (lambda: broken("x.npy", "x"), "data.X=x.npy: cannot be read"),
    "damaged npz": (lambda: broken("x.npz", "PK"), "data.X=x.npz: cannot be read"),
    "objects": (lambda: [np.save("X.npy", np.array([{}]), allow_pickle=True), ""][1:], "X.npy: cannot be read (Object"),
    "text": (lambda: [np.save("X.npy", np.array(["a"])), ""][1:], "data.X=X.npy: must hold real numbers"),
    "complex": (lambda: [put(X + 1j), ""][1:], "must hold real numbers; it is of type complex128"),
    "three dimensions": (lambda: [put(X[None]), ""][1:], "data.X=X.npy: must be a table of samples × features"),
    "nothing": (lambda: [put(X[:0]), ""][1:], "the other way round; it is 0 × 30"),
    "not finite": (
        lambda: [put(np.where(X[2, 3] == X, np.nan, X)), ""][1:],
        "data.X=X.npy: 1 values are missing or not finite, the first in row 3, column 4",
    ),
    "other lengths": (lambda: [put(X[:, :9]), ""][1:], "X 7 × 9 and Y 4 × 30 do not have one number"),
    "the other side": (
        lambda: ["data.samples=rows"],
        "data.samples=rows: X 7 × 30 and Y 4 × 30 do not have one number of samples; data.samples=columns would",
    ),
    "no such array": (lambda: [np.savez("x.npz", a=X, b=X), "data.X=x.npz"][1:], "has no array X, it has a, b"),
    "a word in a csv": (lambda: broken("x.csv", "a,b\n1,2\n3,no\n"), "must hold numbers; column 2 has 'no' in row 2"),
    "a gap in a csv": (lambda: broken("x.csv", "a,b\n1,2\n3,\n"), "1 values are missing or not finite, the first"),
    "a gap in the first row": (lambda: broken("x.csv", "1,,2\n3,4,5\n"), "its first row has an empty cell"),
    "pandas' index": (lambda: [pd.DataFrame(X).to_csv("x.csv"), "data.X=x.csv"][1:], "has an empty cell: give"),
    "pandas' header": (
        lambda: [pd.DataFrame(X).to_csv("x.csv", index=False), "data.X=x.csv"][1:],
        "its first row counts 0, 1, 2, …: give",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("put_mistake", "says"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_one_line(put_mistake, says, capsys, tmp_path):
    put()
    typed = [text for text in put_mistake() if text]
    before = sorted(tmp_path.rglob("*"))
    own = [text for text in OWN if text.split("=")[0] not in {other.split("=")[0] for other in typed}]
    assert cli.run(["experiment=rank_collapse", *QUICK, *own, *typed]) == 2
    error = capsys.readouterr().err
    assert (error[:7], error.count("\n")) == ("error: ", 1)
    assert says in error
    assert sorted(tmp_path.rglob("*")) == before


# ---------------------------------------------------------------------- images

BYTES, LABELS = RANDOM.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8), np.arange(60) % 3


def pictures(**files):
    np.savez("images.npz", **files)
    shared = {"imbalance": 1.0, "targets": "one_hot", "held_out": 0.2, "crop_padding": 0, "flip": False, "seed": 0}
    shared |= {"download": False, "subset": None, "image_size": None}
    return ours("data")["image_arrays"](kind="image_arrays", root="images.npz", **shared)


def test_images_from_an_npz():
    found = images.load(pictures(images=BYTES, labels=LABELS))
    assert (len(found.train), len(found.test), found.classes) == (48, 12, 3)
    with_test = images.load(pictures(images=BYTES / 255, labels=LABELS, test_images=BYTES[:6], test_labels=LABELS[:6]))
    assert torch.equal(with_test.train.images, torch.from_numpy(BYTES))  # floats in [0, 1] are the same bytes
    assert torch.equal(with_test.test.labels, torch.from_numpy(LABELS[:6]))
    one, other = pictures(images=BYTES, labels=LABELS).content, pictures(images=BYTES, labels=1 - LABELS % 2).content
    assert one != other


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"images": BYTES}, "needs the arrays images and labels, test_images and test_labels; has images"),
        ({"images": BYTES, "labels": LABELS, "test_images": BYTES}, "has images, labels, test_images"),
        ({"images": BYTES[:, 0], "labels": LABELS}, r"must be N × channels × height × width; they are 60 × 8 × 8"),
        ({"images": BYTES.transpose(0, 2, 3, 1), "labels": LABELS}, "height × width; they are 60 × 8 × 8 × 1"),
        ({"images": BYTES, "labels": LABELS[1:]}, "labels must be 60 whole numbers; they are 59 of type int64"),
        ({"images": BYTES, "labels": LABELS / 2}, "they are 60 of type float64"),
        ({"images": BYTES.astype(float), "labels": LABELS}, r"must be bytes \(uint8\), or floats in \[0, 1\]"),
        ({"images": BYTES, "labels": LABELS - 1}, "label -1: labels must be 0"),
    ],
)
def test_images_that_are_none(files, says):
    with pytest.raises(UserError, match=says):
        images.load(pictures(**files))
