"""Bad input of every kind: one line that says what is wrong, exit code 2, no traceback, nothing in the results folder.

Each entry of a table is a name, what is put there and typed, and what the line must say. In this process where that
shows the same; a handful as a user would, in one of their own.
"""

import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from repro.pipeline import cli
from repro.pipeline.composition import conf

ROOT = Path(__file__).parents[2]
CONF = ROOT / "tests" / "fixtures" / "conf"
LINEAR = ["experiment=rank_collapse", "scale=smoke", "device=cpu"]
DIGITS = ["experiment=rank_collapse_digits", "scale=smoke", "device=cpu", "data.source=mnist", "data.root=files"]
DEEP = ["experiment=last_layer_dropout", "scale=smoke", "device=cpu", "data.subset=null", "data.imbalance=1.0"]
BLOCKS = ["experiment=dropblock_approximation", "scale=smoke", "device=cpu"]
PARQUET = [*DEEP, "data=parquet", "data.root=files"]
FOLDER = [*DEEP, "data=image_folder", "data.root=files"]

COMMAND_LINE = {
    "unknown key": ([*LINEAR, "trainng.steps=3"], "unknown key trainng.steps; did you mean training.steps?"),
    "unknown group": ([*LINEAR, "date=synthetic"], "unknown key date; did you mean data?"),
    "unknown option": ([*LINEAR, "data=sinthetic"], "data=sinthetic: must be one of"),
    "unknown experiment": (["experiment=rank_colapse"], "did you mean rank_collapse?"),
    "no experiment": (["seed=1"], "no experiment named; add experiment=NAME"),
    "unknown flag": ([*LINEAR, "--verbose"], "--verbose tracking.mode=disabled; --help lists the flags"),
    "not an override": ([*LINEAR, "steps"], "steps: not an override"),
    "unbalanced list": ([*LINEAR, "seed=[1"], "seed=[1: the value cannot be read"),
    "empty value": ([*LINEAR, "training.steps="], "training.steps"),
    "text for a number": ([*LINEAR, "training.steps=many"], "training.steps=many: must be an integer"),
    "fraction for a count": ([*LINEAR, "model.width=1.5"], "model.width=1.5: must be an integer"),
    "bool for a count": ([*LINEAR, "training.masks_per_step=true"], "must be an integer"),
    "null for a count": ([*LINEAR, "training.log_points=null"], "training.log_points=null: must be an integer"),
    "negative count": ([*LINEAR, "data.samples=-1"], "data.samples=-1: must be at least 1"),
    "zero threads": ([*LINEAR, "threads=0"], "threads=0: must be at least 1"),
    "negative seed": ([*LINEAR, "seed=-1"], "seed=-1: must be at least 0"),
    "seed of too many bits": ([*LINEAR, f"seed={2**63}"], f"seed={2**63}: must be less than"),
    "a seed twice": ([*LINEAR, "seed=[1,1]"], "seed=[1,1]: names 1 twice"),
    "no seed": ([*LINEAR, "seed=[]"], "seed=[]: must have 1 or more values"),
    "p of one": ([*LINEAR, "dropout.p=1"], "dropout.p=1: must lie in (0, 1)"),
    "p in percent": ([*LINEAR, "dropout.p=80"], "dropout.p=80: must lie in (0, 1)"),
    "p and retain": ([*LINEAR, "dropout.retain=0.5", "dropout.p=0.5"], "p and retain are both given"),
    "neither": ([*LINEAR, "dropout.p=null"], "neither p nor retain is given"),
    "not a number": ([*LINEAR, "data.noise=nan"], "data.noise="),
    "infinite rate": ([*LINEAR, "training.learning_rate=inf"], "training.learning_rate="),
    "momentum of one": ([*LINEAR, "training.momentum=1"], "must lie in [0, 1)"),
    "correlation of one": ([*LINEAR, "data.correlation=1"], "data.correlation=1: must lie in (-1, 1)"),
    "rank above size": ([*LINEAR, "data.rank=101"], "data.rank=101: must be at most 80"),
    "blocks that do not fit": ([*LINEAR, "dropout.block_size=5"], "must divide model.width=48; allowed: 1, 2, 3"),
    "block above width": (
        [
            *LINEAR,
            "dropout.scheme=overlapping_dropblock",
            "dropout.block_size=64",
            "dropout.p=null",
            "dropout.retain=0.5",
        ],
        "at most model.width=48",
    ),
    "overlapping blocks that leave a rest": (  # θ(p) is of whole numbers of blocks
        [*LINEAR, "dropout.scheme=overlapping_dropblock", "dropout.block_size=5"],
        "dropout.block_size=5: must divide model.width=48",
    ),
    "wrong data": (
        [*LINEAR, "data=cifar10"],
        "data.kind=cifar10: rank_collapse takes data=arrays, correlated, digit_halves, synthetic",
    ),
    "wrong model": ([*LINEAR, "model=resnet20"], "model.kind=resnet20: rank_collapse takes model=linear"),
    "wrong training": ([*LINEAR, "training=network"], "training.kind=network: rank_collapse takes training=sgd"),
    "unknown dtype": ([*LINEAR, "training.dtype=float16"], "must be one of float32, float64"),
    "unknown scale": ([*LINEAR, "scale=huge"], "scale=huge: must be one of auto, smoke, cpu, gpu"),
    "unknown device": ([*LINEAR, "device=tpu"], "device=tpu: must be one of auto, cpu, cuda"),
    "Python's null": ([*LINEAR, "threads=None"], "threads=None: nothing is written null, as in threads=null"),
    "Python's null where there is none": ([*LINEAR, "seed=None"], "seed=None: must be an integer; without it seed is"),
    "Python's null for text": ([*LINEAR, "results=None"], "results=None: must be text; without it results is results"),
    "Python's null for a team": ([*LINEAR, "tracking.entity=None"], "as in tracking.entity=null; without it tracking"),
    "several of Python's nulls": ([*LINEAR, "threads=None", "seed=None"], "as in threads=null"),
    "a key taken away": ([*LINEAR, "~threads"], "~threads: nothing is written null, as in threads=null"),
    "a key taken away that must be": ([*LINEAR, "~seed"], "~seed: must be an integer; without it seed is [0]"),
    "a key taken away, one of two": ([*LINEAR, "~dropout.p"], "~dropout.p: cannot be empty; without it dropout.p is"),
    "a key taken away that is not there": ([*LINEAR, "~nonsense"], "~nonsense: unknown key nonsense"),
    "no tracking": ([*LINEAR, "~tracking"], "tracking=null: tracking.mode=disabled tracks nothing"),
    "null for tracking": ([*LINEAR, "tracking=null"], "tracking=null: tracking.mode=disabled tracks nothing"),
    "off for tracking": ([*LINEAR, "tracking=off"], "tracking.mode=disabled tracks nothing"),
    "a key that is there, added": ([*LINEAR, "+seed=1"], "+seed=1: seed is there already; seed=1 sets it"),
    "a group's key, added": ([*LINEAR, "+training.steps=3"], "training.steps=3 sets it"),
    "a carriage return": ([*LINEAR, "seed=1\r"], "seed=1\\r: \\r in it cannot be seen"),
    "a no-break space": ([*LINEAR, "seed=1\u00a0"], "seed=1<U+00A0>: <U+00A0> in it cannot be seen"),
    "a zero-width space": ([*LINEAR, "results=a\u200bb"], "results=a<U+200B>b: <U+200B> in it cannot be seen"),
    "a byte order mark": (["\ufeffseed=1", *LINEAR], "<U+FEFF>seed=1: <U+FEFF> in it cannot be seen"),
    "a tab in a number": ([*LINEAR, "seed=1\t2"], "seed=1\\t2: must be an integer"),
    "a line's end in a flag": (["--multirun\r", *LINEAR], "--multirun\\r"),
    "a space before =": ([*LINEAR, "seed =1"], "seed =1: no space before the =, as in seed=1"),
    "a bracket in a path": ([*LINEAR, "results=a[b"], """text with such signs 'results="a[b"'"""),
    "an = in a path": ([*LINEAR, "results=a=b"], """text with such signs 'results="a=b"'"""),
    "a comma in a path": ([*LINEAR, "results=a,b"], """a comma within text 'results="a,b"'"""),
    "Hydra's sub-folder": (
        [*LINEAR, "-m", "hydra.sweep.subdir=x"],
        "a record's folder is its experiment and fingerprint",
    ),
    "Hydra's folder of several, of one": ([*LINEAR, "hydra.sweep.dir=x"], "has no effect without -m; hydra.run.dir or"),
    "Hydra's folder of one, of several": ([*LINEAR, "-m", "hydra.run.dir=x", "seed=1,2"], "has no effect with -m"),
    "Hydra's folder and ours": ([*LINEAR, "hydra.run.dir=x", "results=y"], "hydra.run.dir and results are both given"),
    "Hydra's working directory": ([*LINEAR, "hydra.job.chdir=true"], "a run stays in the folder of its command"),
    "Hydra's search path": ([*LINEAR, "hydra.searchpath=[x]"], "--config-dir FOLDER adds one"),
    "Hydra's sweeper": ([*LINEAR, "-m", "hydra/sweeper=optuna"], "nothing to search; give a key as interval"),
    "Hydra's callbacks": ([*LINEAR, "+hydra.callbacks.x=1"], "what is to follow a run stands behind its command"),
    "another of Hydra's settings": ([*LINEAR, "hydra.job.num=3"], "hydra.job.num=3: Hydra's own settings cannot be"),
    "no such logging": ([*LINEAR, "hydra/job_logging=loud"], "hydra/job_logging"),
    "several without -m": ([*LINEAR, "seed=1,2"], "several values need -m"),
    "the second of several": ([*LINEAR, "-m", "seed=1,-2"], "seed=-2: must be at least 0"),
    "unknown tracking": ([*LINEAR, "tracking.mode=on"], "must be one of offline, online, disabled"),
    "no project": ([*LINEAR, "tracking.project="], "tracking.project"),
    "a project as a path": (
        [*LINEAR, "tracking.project=team/exp"],
        "tracking.project=team/exp: must be 1 … 128 characters",
    ),
    "a project with a question": ([*LINEAR, "tracking.project=exp?"], "and none of / \\ # ? % :"),
    "a project in per cent": ([*LINEAR, "tracking.project=10%"], "and none of / \\ # ? % :"),
    "a project with a colon": ([*LINEAR, "tracking.project=a:b"], "tracking.project=a:b: must be 1"),
    "a project too long": ([*LINEAR, f"tracking.project={'x' * 129}"], "must be 1 … 128 characters, for W&B"),
    "a team as a path": ([*LINEAR, "tracking.entity=team/exp"], "tracking.entity=team/exp: must be 1"),
    "a name too long": ([*LINEAR, f"name={'x' * 65}", "module=rank_collapse"], "must have at most 64 characters"),
    "no results folder": ([*LINEAR, "results="], "results"),
    "name that is a path": ([*LINEAR, "name=../x"], "module=../x: there is no Python module"),
    "name in capitals": (
        [*LINEAR, "name=X", "module=rank_collapse"],
        "name=X: must be lower-case letters, digits and _",
    ),
    "module that is not there": ([*LINEAR, "module=nowhere"], "there is no Python module nowhere"),
    "module that is none of ours": (
        [*LINEAR, "module=json.decoder"],
        "json.decoder is no experiment, it lacks Config",
    ),
    "missing variable": ([*LINEAR, "results=${oc.env:NO_SUCH_VARIABLE}"], "NO_SUCH_VARIABLE"),
    "even squares": (["experiment=dropblock_approximation", "options.map_block_size=4"], "must be odd"),
    "squares above the maps": (
        [*BLOCKS, "options.map_block_size=99"],
        "map_block_size=99: must be at most 7, the",
    ),
    "squares above the last maps": ([*BLOCKS, "options.map_block_size=5"], "map_block_size=5: must be at most 4"),
    "squares cannot drop so much": (
        [*BLOCKS, "options.map_retain=0.01"],
        "map_retain=0.01: must be at least 0.3",
    ),
    "a stage too many": ([*BLOCKS, "options.map_stages=[-4,-1]"], "map_stages=[-4,-1]: resnet8 has stages -3 … -1"),
    "no stage": ([*BLOCKS, "options.map_stages=[]"], "options.map_stages=[]: must have 1 or more values"),
    "batch above the images": ([*DEEP, "data.subset=40"], "training.batch_size=50: must be at most 40"),
    "subset above the images": ([*DEEP, "data.subset=9999"], "data.subset=9999: must be at most 4000"),
    "subset below the classes": (
        [*DEEP, "data.subset=3", "training.batch_size=1"],
        "no training image is left of class",
    ),
    "imbalance below one": ([*DEEP, "data.imbalance=0.5"], "data.imbalance=0.5: must be at least 1"),
    "batch of odd shares": ([*DEEP, "training.devices=3"], "must be a multiple of training.devices=3"),
    "too narrow": ([*DEEP, "model.width_factor=0.1"], "leaves 2 channels"),
    "folder not named": ([*DEEP, "data=parquet", "data.root=null"], "data=parquet needs the folder of the images"),
    "no such --config-dir": (["--config-dir", "nowhere", *LINEAR], "--config-dir=nowhere: there is no such folder"),
    "a file as --config-dir": (["--config-dir", str(ROOT / "README.md"), *LINEAR], "there is no such folder"),
}


def file(name, content):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


TINY = (CONF / "experiment" / "tiny.yaml").read_text(encoding="utf-8")

CONFIG_FILES = {  # what stands in experiment/mine.yaml
    "a tab": (TINY + "\toptions: 3\n", "mine.yaml"),
    "an open bracket": (TINY + "seed: [1, 2\n", "mine.yaml"),
    "a list": ("# @package _global_\n- name\n- tiny\n", "mine"),
    "a word": ("# @package _global_\nhello\n", "no experiment named"),
    "nothing": ("", "no experiment named"),
    "bytes that are no text": (b"# @package _global_\nname: \xff\xfe\n", "mine.yaml"),
    "a key twice": (TINY + "seed: 1\nseed: 2\n", "seed"),
    "no name": (TINY.replace("name: tiny\n", ""), "no experiment named"),
    "no title": (TINY.replace("title:", "titel:"), "title"),
    "no title at all": ("\n".join(x for x in TINY.splitlines() if not x.startswith("title")), "title"),
    "another package": (TINY.replace("# @package _global_\n", ""), "experiment/mine"),
    "a default that is not there": (TINY.replace("/tracking: wandb", "/tracking: comet"), "tracking/comet"),
    "a group that is not there": (TINY.replace("/tracking: wandb", "/trackers: wandb"), "trackers"),
    "a circle": (
        TINY.replace("[0],[0,1],[0,1,2]", "0,0,0")
        .replace("{factor: 2.0", "{factor: '${options.fail}'")
        .replace("fail: false", "fail: '${options.factor}'"),
        "Recursive interpolation detected",
    ),
    "a value from nowhere": (TINY.replace("{factor: 2.0", "{factor: '${nowhere.at.all}'"), "nowhere"),
    "an unknown resolver": (TINY.replace("{factor: 2.0", "{factor: '${sqrt:2}'"), "sqrt"),
    "two sizes of three": (TINY.replace("[0],[0,1],[0,1,2]", "[0],[0,1]"), "3 values (smoke, cpu, gpu), got 2"),
    "text for a number": (TINY.replace("factor: 2.0", "factor: two"), "options.factor=two: must be a number"),
    "not a number": (TINY.replace("factor: 2.0", "factor: .nan"), "options.factor="),
    "a missing option": (TINY.replace("factor: 2.0, ", ""), "options.factor: is not set"),
    "an option too many": (
        TINY.replace("factor: 2.0", "factor: 2.0, faktor: 1"),
        "options.faktor: unknown key; did you mean",
    ),
    "a list for options": (
        TINY.replace("options: {factor: 2.0, fail: false, seconds: 0.0}", "options: [1]"),
        "experiment/mine",
    ),
    "a module with a typo": (
        TINY.replace("module: tiny.experiment", "module: tiny.experimnt"),
        "no Python module tiny.experimnt",
    ),
}


def png(side=8, color=0):
    content = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), color, np.uint8)).save(content, "PNG")
    return content.getvalue()


def parquet(name="files/train.parquet", count=60, **columns):
    table = {"image": [{"bytes": png(), "path": None}] * count, "label": np.arange(count) % 2}
    table = {key: value for key, value in (table | columns).items() if value is not None}
    Path(name).parent.mkdir(exist_ok=True)
    pd.DataFrame(table).to_parquet(name)


def images(*names, content=None):
    for name in names:
        file(f"files/{name}", png() if content is None else content)


def idx(name, shape, values=0, cut=None):
    """A file of MNIST's format."""
    magic = 0x0800 | len(shape)
    content = struct.pack(f">{1 + len(shape)}I", magic, *shape) + bytes([values]) * int(np.prod(shape))
    file(f"files/MNIST/raw/{name}", content[:cut])


def mnist(shape=(60, 28, 28), labels=60, **options):
    for part in ("train", "t10k"):
        idx(f"{part}-images-idx3-ubyte", shape, **options)
        idx(f"{part}-labels-idx1-ubyte", (labels,))


DATA_FILES = {
    "no folder": (lambda: None, PARQUET, "data.root=files: there is no such folder"),
    "an empty folder": (lambda: Path("files").mkdir(), PARQUET, "data.root=files: holds no Parquet files (train*.parq"),
    "a file for a folder": (lambda: file("files", "x"), PARQUET, "data.root=files: there is no such folder"),
    "text in Parquet": (lambda: file("files/train.parquet", "hello"), PARQUET, "cannot be read as parquet"),
    "an empty Parquet file": (lambda: file("files/train.parquet", ""), PARQUET, "cannot be read as parquet"),
    "Parquet cut off": (
        lambda: [parquet(), file("files/train.parquet", Path("files/train.parquet").read_bytes()[:-200])],
        PARQUET,
        "cannot be read as parquet",
    ),
    "no image column": (lambda: parquet(image=None, pixels=[0] * 60), PARQUET, "needs columns img or image"),
    "no label column": (lambda: parquet(label=None), PARQUET, "and label or fine_label; it has image"),
    "no rows": (lambda: parquet(count=0, label=np.array([], np.int64)), PARQUET, "data.root=files: holds no rows"),
    "labels in words": (lambda: parquet(label=["cat", "dog"] * 30), PARQUET, "label must hold whole numbers"),
    "a label that is NaN": (
        lambda: parquet(label=[0.0, np.nan] * 30),
        PARQUET,
        "label must hold whole numbers, none missing",
    ),
    "negative labels": (lambda: parquet(label=[-1, 0] * 30), PARQUET, "label -1: labels must be 0"),
    "labels beyond all classes": (lambda: parquet(label=[0, 10**9] * 30), PARQUET, "label 1000000000"),
    "a class without images": (lambda: parquet(label=[0, 2] * 30), PARQUET, "no training image is left of class 1"),
    "images as text": (lambda: parquet(image=["x"] * 60), PARQUET, "row 0: holds no image's bytes, and x is not"),
    "an image missing": (
        lambda: parquet(image=[{"bytes": png(), "path": None}] * 59 + [{"bytes": None, "path": "x"}]),
        PARQUET,
        "row 59: holds no image's bytes, and x is not beside the file",
    ),
    "an image that is none": (
        lambda: parquet(image=[{"bytes": png(), "path": None}] * 9 + [{"bytes": b"no", "path": None}] * 51),
        PARQUET,
        "row 9: not an image that can be read",
    ),
    "images of two sizes": (
        lambda: parquet(image=[{"bytes": png(8 + n % 2), "path": None} for n in range(60)]),
        PARQUET,
        "images of 2 sizes; all must have one",
    ),
    "a test set of another shape": (
        lambda: [parquet(), parquet("files/test.parquet", image=[{"bytes": png(9), "path": None}] * 60)],
        PARQUET,
        "must have one shape, got (3, 8, 8) and (3, 9, 9)",
    ),
    "a shard missing": (
        lambda: parquet("files/train-00000-of-00002.parquet"),
        PARQUET,
        "files/train-00000-of-00002.parquet: 1 of 2 shards not there: number 1, counted from 0",
    ),
    "a Git LFS pointer for a shard": (
        lambda: file("files/train.parquet", "version https://git-lfs.github.com/spec/v1\n"),
        PARQUET,
        "files/train.parquet: a Git LFS pointer in place of the shard",
    ),
    "a file of no split beside others": (
        lambda: [parquet(), parquet("files/extra.parquet")],
        PARQUET,
        "files/extra.parquet: does not say of which split it is",
    ),
    "no class folder": (lambda: Path("files").mkdir(), FOLDER, "holds no folder for each class"),
    "class folders without images": (lambda: Path("files/a").mkdir(parents=True), FOLDER, "holds no images"),
    "a text file for an image": (
        lambda: [images("a/1.png", "b/1.png"), images("b/2.png", content=b"hello")],
        FOLDER,
        "files/b/2.png: not an image that can be read",
    ),
    "an image cut off": (
        lambda: [images("a/1.png"), images("b/1.png", content=png(64, 99)[:60])],
        FOLDER,
        "files/b/1.png: not an image that can be read",
    ),
    "a class in the test set alone": (
        lambda: images("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png"),
        FOLDER,
        "files/test/c: a class that files/train does not have; it has a, b",
    ),
    "two validation sets": (
        lambda: images(*(f"{split}/{name}/1.png" for split in ("train", "val", "dev") for name in ("a", "b"))),
        FOLDER,
        "data.root=files: dev and val are both of the validation set; leave one",
    ),
    "one image a batch that ends in one pixel": (
        lambda: images("a/1.png", "b/1.png", "a/2.png", "b/2.png"),
        [*FOLDER, "training.batch_size=1", "data.held_out=0.5", "data.image_size=8"],
        "training.batch_size=1: must be at least 2: the last maps of an image are one pixel",
    ),
    "no MNIST": (lambda: None, DIGITS, "data.root=files: holds no MNIST"),
    "MNIST cut off": (lambda: mnist(cut=500), DIGITS, "files/MNIST/raw/train-images-idx3-ubyte: damaged or cut off"),
    "text for MNIST": (lambda: [mnist(), file("files/MNIST/raw/train-images-idx3-ubyte", "hello")], DIGITS, "damaged"),
    "digits of another size": (lambda: mnist((60, 20, 20)), DIGITS, "images must be 28 × 28, got (20, 20)"),
    "digits all black": (mnist, DIGITS, "the inputs X do not vary"),
    "MNIST cut off, in a network": (
        lambda: mnist(cut=500),
        [*DEEP, "data=mnist", "data.root=files"],
        "files/MNIST/raw/train-images-idx3-ubyte: damaged or cut off",
    ),
    "no CIFAR": (lambda: None, [*DEEP, "data=cifar10", "data.root=files"], "holds no CIFAR10; data.download=true"),
    "CIFAR that is none": (
        lambda: [
            file(f"files/cifar-10-batches-py/{name}", b"cposix\nsystem\n(S'touch harm'\ntR.")
            for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta")
        ],
        [*DEEP, "data=cifar10", "data.root=files"],
        "files/cifar-10-batches-py/data_batch_1: damaged or cut off, not CIFAR10's as published; remove it",
    ),
}


def gone():
    Path("gone").mkdir()
    os.chdir("gone")
    os.rmdir("../gone")


ENVIRONMENT = {
    "threads in words": (
        {"OMP_NUM_THREADS": "all"},
        lambda: None,
        "OMP_NUM_THREADS=all in the environment: must be a whole",
    ),
    "no thread": ({"MKL_NUM_THREADS": "0"}, lambda: None, "MKL_NUM_THREADS=0 in the environment"),
    "the folder is gone": ({}, gone, "the working directory no longer exists"),
    "results is a file": ({}, lambda: file("results", ""), "results=results: cannot be written"),
    "results/runs is a file": ({}, lambda: file("results/runs", ""), "results=results: cannot be written"),
    "results cannot be made": (
        {"RESULTS": "/proc/1/results"},
        lambda: None,
        "results=/proc/1/results: cannot be written",
    ),
    "results below a file": (
        {"RESULTS": "/dev/null/results"},
        lambda: None,
        "results=/dev/null/results: cannot be written",
    ),
    "results too long": ({"RESULTS": "x" * 300}, lambda: None, "File name too long"),
    "no GPU to be seen": (
        {"CUDA_VISIBLE_DEVICES": "", "DEVICE": "cuda"},
        lambda: None,
        "device=cuda: no usable NVIDIA GPU",
    ),
}


def last_of_each(arguments):
    """The tables' common arguments give way to a case's own: a key given twice is a mistake of its own."""
    return list({text.partition("=")[0] if "=" in text else text: text for text in arguments}.values())


def line_of(arguments, capfd):
    assert cli.run(last_of_each(arguments)) == 2
    error = capfd.readouterr().err
    lines = [line for line in error.splitlines() if not line.startswith("warning: ")]
    assert len([line for line in lines if line.startswith("error: ")]) == 1, error
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in error
    return lines[-1]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("arguments", "says"), COMMAND_LINE.values(), ids=list(COMMAND_LINE))
def test_command_line(arguments, says, capfd, tmp_path):
    assert says in line_of([*arguments, *([] if "tracking" in str(arguments) else ["tracking.mode=disabled"])], capfd)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("content", "says"), CONFIG_FILES.values(), ids=list(CONFIG_FILES))
def test_config_files(content, says, capfd, tmp_path):
    file("conf/experiment/mine.yaml", content)
    assert says in line_of(["--config-dir", "conf", "experiment=mine", "scale=smoke"], capfd)
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


def test_a_config_file_that_is_a_folder(capfd, tmp_path):
    Path("conf/experiment/mine.yaml").mkdir(parents=True)
    assert "mine" in line_of(["--config-dir", "conf", "experiment=mine"], capfd)


def test_the_config_files_above_are_right_but_for_one_thing(capfd, tmp_path):
    file("conf/experiment/mine.yaml", TINY)
    assert cli.run(["--config-dir", "conf", "experiment=mine", "scale=smoke"]) == 0


@pytest.mark.parametrize(("put", "arguments", "says"), DATA_FILES.values(), ids=list(DATA_FILES))
def test_data_files(put, arguments, says, capfd, tmp_path):
    put()
    before = sorted(tmp_path.rglob("*"))
    assert says in line_of([*arguments, "tracking.mode=disabled"], capfd)
    assert sorted(tmp_path.rglob("*")) == before  # and nothing that a data file asked for was done


@pytest.mark.parametrize(("variables", "put", "says"), ENVIRONMENT.values(), ids=list(ENVIRONMENT))
def test_environment(variables, put, says, capfd, tmp_path, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    put()
    before = sorted(tmp_path.rglob("*"))
    tiny = ["--config-dir", str(CONF), "experiment=tiny", "scale=smoke"]
    tiny += [f"{key.lower()}={variables[key]}" for key in ("RESULTS", "DEVICE") if key in variables]
    conf.cuda_is_usable.cache_clear()
    assert says in line_of(tiny, capfd)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mistake_in_the_data_leaves_no_wandb_run_either(capfd, tmp_path):
    assert "holds no MNIST" in line_of([*DIGITS, "tracking.mode=offline"], capfd)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "arguments", "variables", "says"),
    [
        ("run.py", [*LINEAR, "trainng.steps=3"], {}, "unknown key trainng.steps"),
        ("run.py", [*DIGITS, "tracking.mode=disabled"], {}, "holds no MNIST"),
        ("run.py", LINEAR, {"OMP_NUM_THREADS": "-1"}, "OMP_NUM_THREADS=-1"),
        ("reproduce_all.py", ["training.steps=0"], {}, "training.steps=0: must be at least 1"),
        ("reproduce_all.py", ["dropout.p=2"], {"PYTHONIOENCODING": "ascii"}, "dropout.p=2: must lie in (0, 1)"),
        ("figures.py", ["experiment=rank_colapse"], {}, "did you mean rank_collapse?"),
    ],
)
def test_as_a_user(script, arguments, variables, says, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, *arguments], capture_output=True, text=True, timeout=100,
        env=os.environ | variables,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert says in lines[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_there_are_enough():
    assert len({**COMMAND_LINE, **CONFIG_FILES, **DATA_FILES, **ENVIRONMENT}) >= 60
