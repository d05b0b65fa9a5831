"""A configuration gives the same bits alone, after others in the same process, on more threads, and on workers."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from repro.pipeline.store import records

# One experiment of each kind, in several shards or parts, and as small as that allows: where it is, and its file.
EXPERIMENTS = {
    "bits_sweep": (
        "structured_dropout.rank_collapse",
        """
seed: [0, 1]
data: {samples: 400}
training: {steps: 60, log_points: 6}
""",
    ),
    "bits_networks": (
        "structured_dropout.last_layer_dropout",
        """
data: {subset: 150}
dropout: {block_size: 4}
training: {processes: 1}
options: {monte_carlo_masks: 64}
""",
    ),
    "bits_deep_linear": (
        "deep_linear_dropout.deep_linear_collapse",
        """
seed: [0, 1, 2]
model: {depth: [2, 3]}
training: {steps: 60, log_points: 4}
options: {starts: 1}
""",
    ),
}
# The experiment itself without its figures, which would take most of the time.
MODULE = """
from repro.papers.{path} import Config
from repro.papers.{path}.run import run

def figures(record):
    return {{}}
"""
RUN_ALL = """
import json, sys
from repro.pipeline import cli
from repro.pipeline.execution import commands
for arguments in json.loads(sys.argv[1]):
    assert cli.over_all(commands.reproduce_all, "", arguments) == 0, arguments
"""
SWEEP, NETWORKS, DEEP_LINEAR = EXPERIMENTS
ORDERS = {"one": (SWEEP, NETWORKS, DEEP_LINEAR), "other": (DEEP_LINEAR, SWEEP, NETWORKS)}


def started(folder, *commands, **environment):
    """A process that reproduces the experiments of each command in turn."""
    common = ["--config-dir", "conf", "scale=smoke", "device=cpu", "tracking.mode=disabled"]
    return subprocess.Popen(
        [sys.executable, "-c", RUN_ALL, json.dumps([[*common, *command] for command in commands])], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])} | environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bits")
    (folder / "conf" / "experiment").mkdir(parents=True)
    for name, (path, text) in EXPERIMENTS.items():
        head = f"# @package _global_\ndefaults: [{path.split('.')[1]}]\nname: {name}\nmodule: {name}"
        (folder / "conf" / "experiment" / f"{name}.yaml").write_text(head + text)
        (folder / f"{name}.py").write_text(MODULE.format(path=path))
    in_a_row = [[f"experiment={','.join(order)}", f"results={name}"] for name, order in ORDERS.items()]
    two_threads = [f"experiment={SWEEP}", "threads=2", "results=two_threads"]
    # torch's own number of threads differs from theirs in both, so that one who leaves or forgets it is seen
    processes = [started(folder, *in_a_row, OMP_NUM_THREADS="2"), started(folder, two_threads, OMP_NUM_THREADS="1")]
    if importlib.util.find_spec("joblib"):
        workers = ["hydra/launcher=joblib", "hydra.launcher.workers=2", "hydra.launcher.cells=8"]
        processes.append(started(folder, [f"experiment={','.join(EXPERIMENTS)}", *workers, "results=workers"]))
    for process in processes:
        error = process.communicate(timeout=600)[1]
        assert process.returncode == 0, error
    return folder


def record(folder, results, name):
    (found,) = records.records(name, folder / results)
    return found


def assert_same_bits(one, other):
    pd.testing.assert_frame_equal(one.cells, other.cells, check_exact=True)
    pd.testing.assert_frame_equal(one.curves, other.curves, check_exact=True)
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name], strict=True, err_msg=name)
    assert one.summary["headline"] == other.summary["headline"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_in_another_order(results, name):
    assert_same_bits(record(results, "one", name), record(results, "other", name))


def test_alone_on_two_threads(results):
    alone = record(results, "two_threads", SWEEP)
    assert (alone.config["threads"], len(alone.cells)) == (2, 12)  # two shards
    assert_same_bits(alone, record(results, "other", SWEEP))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_on_workers(results, name):
    if not (results / "workers").exists():
        pytest.skip("joblib is not installed")
    spread = record(results, "workers", name)
    assert ("parts" in spread.summary["durations"]) == (name != DEEP_LINEAR)  # whose grid is not cut
    assert_same_bits(spread, record(results, "one", name))


def test_the_last_bit_is_seen(results):
    one = record(results, "one", SWEEP)
    for name in ("cells", "curves"):
        other = record(results, "one", SWEEP)
        frame = getattr(other, name)
        frame.loc[frame.index[-1], "objective"] = np.nextafter(frame.objective.iloc[-1], np.inf)
        with pytest.raises(AssertionError):
            assert_same_bits(one, other)
    other = record(results, "one", SWEEP)
    array = other.arrays["singular_values"]
    array.flat[-1] = np.nextafter(array.flat[-1], np.inf)
    with pytest.raises(AssertionError, match="singular_values"):
        assert_same_bits(one, other)
