"""The same command gives the same record, bit for bit but for times: every experiment, in fresh processes with other
hash seeds and working directories, and in another order."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from repro import records
from repro.pipeline.composition import conf
from repro.pipeline.settings import load
from repro.pipeline.system.errors import UserError

LINEAR = ["data.in_features=12", "data.out_features=10", "data.samples=80", "data.rank=6", "model.width=8"]
DEEP = ["data.subset=100", "training.epochs=1"]
PROCESSES = "training.processes=2"  # of one experiment of networks; the code that starts them is that of the other
# of experiments whose settings are others, or take long
OTHER = {
    "deep_linear_collapse": [*LINEAR, "model.depth=[2,3]", "dropout.retain=[0.3,0.9]", "training.steps=50"],
    "last_layer_dropout": [
        *[*DEEP, PROCESSES],
        *["dropout.retain=0.2", "options.monte_carlo_masks=256", "options.measurements=1"],
    ],
    "dropblock_approximation": [*DEEP, "options.places=[maps]", "options.map_stages=[-1]"],
    "deep_linear_regularizer": [*LINEAR, "training.steps=40"],
    "adaptive_penalties": ["options.points=30", "options.masks=64"],
    "adaptive_regression": ["data.samples=20", "data.features=30", "training.steps=20", "seed=0"],
    "adaptive_sparsification": ["data.subset=100", "model.hidden=[8,8]", "training.batch_size=50", "training.epochs=1"],
    "incremental_pruning": [
        "data.subset=60",
        "model.channels=[8,8]",
        "training.batch_size=20",
        "training.updates=4",
        "training.pruning=2",
    ],
    "incremental_schedule": ["options.groups=10", "options.updates=60", "options.changed=2", "seed=[0,1]"],
    "structured_output_landmarks": ["training.steps=2"],
    "structured_output_digits": ["training.steps=2"],
    "structured_noise": ["model.width=13", "options.monte_carlo_masks=64", "options.rotations=20"],
    "structured_posterior": ["options.restarts=1", "options.iterations=3", "data.samples=14"],
    "variational_regression": ["data.table=diabetes", "training.steps=2", "training.log_points=2", "seed=[0,1]"],
    "variational_classification": ["data.subset=60", "training.steps=2", "training.log_points=2", "seed=[0,1]"],
}
# Others are the same experiment with other values.
EXPERIMENTS = [
    name
    for name in conf.experiments()
    if "module" not in yaml.safe_load((conf.CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))
]
RUN_ALL = """
import json, sys
from repro.pipeline import cli
for arguments in json.load(open(sys.argv[1])):
    assert cli.run(arguments) == 0, arguments
"""
# All else is the same for the same question: config.yaml names the folder, summary.json the time.
NUMBERS = ("cells.parquet", "curves.parquet", "arrays.npz")


def small(name):
    """An experiment's overrides at the smallest size that it takes."""
    for sizes in (OTHER[name],) if name in OTHER else (LINEAR, DEEP):
        quick = ["scale=smoke", "device=cpu", "tracking.mode=disabled", "figures=false"]
        overrides = [f"experiment={name}", *quick, *sizes]
        try:
            load(overrides)
        except UserError:
            continue
        return overrides
    raise AssertionError(name)


def started(folder, commands, hash_seed):
    folder.mkdir(parents=True)
    (folder / "commands.json").write_text(json.dumps(commands))
    return subprocess.Popen(
        [sys.executable, "-c", RUN_ALL, "commands.json"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def hashes(folder):
    """Experiment and file to hash, of the numbers and of the headline."""
    found = {}
    for path in folder.glob("results/runs/*/*"):
        record = records.Record(path)
        for name in NUMBERS:
            found[record.experiment, name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
        found[record.experiment, "headline"] = json.dumps(record.summary["headline"])
        found[record.experiment, "fingerprint"] = record.fingerprint
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    commands = [small(name) for name in EXPERIMENTS]
    one, other = tmp_path_factory.mktemp("one") / "here", tmp_path_factory.mktemp("other") / "some" / "where" / "else"
    control = one / "control"
    seeded = [*commands[0], "seed=[7]", f"results={control}/results"]
    shuffled = random.Random(1).sample(commands, len(commands))
    processes = [started(one, [*commands, seeded], "1"), started(other, shuffled, "4711")]
    for process in processes:
        error = process.communicate(timeout=900)[1]
        assert process.returncode == 0, error
    return one, other, control


def test_every_experiment_repeats_itself_bit_for_bit(folders):
    one, other, _ = folders
    found = hashes(one)
    assert {experiment for experiment, _ in found} == set(EXPERIMENTS)
    assert found == hashes(other)


def test_another_seed_is_seen(folders):
    one, _, control = folders
    other = hashes(control)
    assert other
    assert all(hashes(one)[key] != value for key, value in other.items() if key[1] in NUMBERS[:2])


def test_the_time_is_the_only_thing_that_differs(folders):
    one, other, _ = folders
    for path in one.glob("results/runs/*/*"):
        mine, theirs = (records.Record(p).summary for p in (path, other / path.relative_to(one)))
        differing = {key for key in mine if mine[key] != theirs[key]}
        assert differing <= {"durations", "finished"}
        assert records.Record(path).config == records.Record(other / Path(path).relative_to(one)).config
