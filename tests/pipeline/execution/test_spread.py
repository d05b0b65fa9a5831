"""Runs on the workers of each launcher: the records are those of one process, and a dead worker costs only its part."""

import fcntl
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from repro import records
from repro.data import linear as data
from repro.papers.structured_dropout import linear
from repro.papers.structured_dropout.last_layer_dropout import run as last_layer_dropout
from repro.pipeline import cli
from repro.pipeline.composition import conf
from repro.pipeline.execution import commands, launchers, making, runner, spread
from repro.pipeline.presentation import commands as showing
from repro.pipeline.settings import load
from repro.pipeline.store import Run
from repro.pipeline.store import run as store_run
from repro.pipeline.system.errors import UserError

CONF = Path(__file__).parents[2] / "fixtures" / "conf"
TINY = ["--config-dir", str(CONF), "experiment=tiny", "scale=smoke"]
SMALL = [
    "experiment=rank_collapse", "scale=smoke", "device=cpu", "threads=1", "tracking.mode=disabled", "seed=[0,1,2,3]",
    "data.in_features=12", "data.out_features=10", "data.samples=80", "data.rank=6", "model.width=8",
    "training.learning_rate=0.1", "training.steps=40",
]  # fmt: skip
DEEP = [
    "experiment=last_layer_dropout", "scale=smoke", "device=cpu", "tracking.mode=disabled", "data.subset=150",
    "dropout.block_size=[1,4]", "options.monte_carlo_masks=64",
]  # fmt: skip
LAUNCHERS = ("joblib", "submitit_local", "ray")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(CONF.parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(tmp_path)


def need(launcher):
    module = launcher.split("_")[0]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: hydra/launcher={launcher} is not tested")


def run(*arguments):
    return cli.run(list(arguments))


def chosen(name, *settings):
    return launchers.validated(conf.chosen("launcher", [f"hydra/launcher={name}", *settings]))


def executed(*overrides, **changes):
    return runner.execute(Run(load(overrides).model_copy(update=changes)), quiet=True).record


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The record of `SMALL` made in one process."""
    folder = tmp_path_factory.mktemp("alone")
    return executed(*SMALL, f"results={folder}")


def same(one, other):
    """Whether two records hold the same numbers, bit for bit."""
    pd.testing.assert_frame_equal(one.cells, other.cells, check_exact=True)
    pd.testing.assert_frame_equal(one.curves, other.curves, check_exact=True)
    assert one.arrays.keys() == other.arrays.keys()
    assert all(np.array_equal(one.arrays[k], other.arrays[k], equal_nan=True) for k in one.arrays)
    return one.fingerprint == other.fingerprint and one.summary["headline"] == other.summary["headline"]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_grid_cut_over_workers_is_that_of_one_process(launcher, alone, tmp_path, capfd):
    need(launcher)
    assert run(*SMALL, f"hydra/launcher={launcher}", "hydra.launcher.cells=8", "hydra.launcher.workers=2") == 0
    (record,) = records.records("rank_collapse")
    assert same(record, alone)
    assert record.summary["durations"]["parts"] > 0  # 24 cells: three parts
    assert record.summary["command"] == f"python scripts/run.py {' '.join(SMALL[:1] + SMALL[2:5])} " + " ".join(
        f"'{text}'" if "[" in text else text for text in [*SMALL[5:], "scale=smoke"]
    )
    assert sorted(path.name for path in Path("results").iterdir()) == ["runs"]
    assert run(*SMALL, f"hydra/launcher={launcher}") == 0
    assert "cached in" in capfd.readouterr().out


def test_the_comparison_sees_a_difference(alone):
    other = executed(*SMALL, "seed=[0,1,2,4]")
    with pytest.raises(AssertionError):
        same(other, alone)


def test_networks_go_to_workers_one_by_one(capfd):
    need("joblib")
    assert spread.missing(Run(load(DEEP)), chosen("joblib")) == [(0, 1), (1, 2), (2, 3)]
    assert run(*DEEP, "hydra/launcher=joblib", "hydra.launcher.workers=2") == 0
    (spreaded,) = records.records("last_layer_dropout")
    assert same(spreaded, executed(*DEEP, "results=alone"))
    assert not Path("results/checkpoints").exists() or not list(Path("results/checkpoints").rglob("*.pt"))


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_several_runs_and_a_failing_one(launcher, capfd):
    need(launcher)
    workers = [f"hydra/launcher={launcher}", "hydra.launcher.workers=2"]
    assert run(*TINY, *workers, "-m", "options.fail=true,false", "options.factor=1,3") == 1
    assert len(records.records("tiny")) == 2
    error = capfd.readouterr().err
    assert "failed: experiment=tiny scale=smoke options.fail=True options.factor=3" in error
    assert "ZeroDivisionError: our own mistake" in error


def test_reproduce_all_on_workers(capfd):
    need("joblib")
    assert cli.over_all(commands.reproduce_all, "", [*TINY, "hydra/launcher=joblib", "options.fail=true,false"]) == 1
    printed = capfd.readouterr()
    assert "ZeroDivisionError" in printed.err
    assert "failed: tiny" in printed.err
    assert len(records.records("tiny")) == 1
    assert cli.over_all(commands.reproduce_all, "", [*TINY, "hydra/launcher=joblib"]) == 0
    assert "│ cached │" in capfd.readouterr().out


def test_only_the_missing_parts_are_computed_again(alone, monkeypatch, capfd):
    """A worker is killed at its part; the next call takes the other parts as they are."""
    need("submitit_local")
    task, launcher = Run(load(SMALL)), chosen("submitit_local", "hydra.launcher.cells=8")
    # in the killed worker's place: one that computed two of three parts before it died
    for part in ((0, 8), (16, 24)):
        making.make_part(task, part)
    assert spread.missing(task, launcher) == [(8, 16)]
    kept = {path: path.stat().st_mtime_ns for path in Path("results/parts").rglob("*.npz")}
    units = []
    original = launchers.Submitit.run
    monkeypatch.setattr(
        launchers.Submitit,
        "run",
        lambda launcher, work, items, *rest: original(launcher, work, units.extend(items) or items, *rest),
    )
    assert run(*SMALL, "hydra/launcher=submitit_local", "hydra.launcher.cells=8") == 0
    assert [unit.part for unit in units] == [(8, 16), None]
    assert len(kept) == 2
    assert same(records.records("rank_collapse")[0], alone)


def test_parts_that_were_left_serve_a_run_without_a_launcher(alone):
    task = Run(load(SMALL))
    making.make_part(task, (8, 16))
    record = runner.execute(task, quiet=True).record
    assert record.summary["durations"]["parts"] > 0
    assert same(record, alone)
    assert not Path("results/parts").exists()


def test_measurements_do_not_depend_on_where_a_grid_is_cut(monkeypatch):
    monkeypatch.setattr(linear, "SUSPICIOUS", 2.0)  # measurements done twice: in some parts, not in others
    cells = ["dropout.p=null", "dropout.retain=[0.5,0.9]", "dropout.block_size=[1,2]", "options.monte_carlo_masks=64"]
    overrides = ["experiment=dropblock_objective", *SMALL[1:], *cells]
    whole = executed(*overrides, results="whole")
    assert 0 < whole.curves.remeasured.sum() < len(whole.curves)
    making.make_part(Run(load(overrides)), (8, 16))
    assert same(executed(*overrides), whole)


def test_parts_of_other_code_are_not_taken(monkeypatch):
    making.make_part(Run(load(SMALL)), (8, 16))
    assert Run(load(SMALL)).parts.stored() == [(8, 16)]
    monkeypatch.setattr(store_run, "computed_by", lambda config: {"my.noise": "other"})
    assert Run(load(SMALL)).parts.stored() == []


# What workers import by name: tests themselves are no modules of theirs.
HELPERS = """
import os, signal, torch
from pathlib import Path

def perhaps_killed(item):
    if item == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    Path(item).touch()

def look(path):
    Path(path).write_text(f"{os.environ['OMP_NUM_THREADS']} {torch.get_num_threads()}")
"""


@pytest.fixture
def helpers(monkeypatch, tmp_path):
    folder = tmp_path / "helpers"
    folder.mkdir()
    (folder / "worker_helpers.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ["PYTHONPATH"]]))
    yield importlib.import_module("worker_helpers")
    del sys.modules["worker_helpers"]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_killed_worker_is_reported(launcher, helpers, tmp_path):
    need(launcher)
    settings = chosen(launcher, "hydra.launcher.workers=2")
    with settings.started(1):
        found = dict(settings.run(helpers.perhaps_killed, [str(tmp_path / "one"), "kill"], 1, tmp_path / "logs"))
    assert "died" in found[1]
    if launcher != "joblib":  # whose pool ends with one of its processes
        assert found[0] is None
        assert Path("one").exists()


def test_ray_on_a_cluster_that_runs(alone):
    need("ray")
    ray_cluster = importlib.import_module("ray.cluster_utils")
    cluster = ray_cluster.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        assert run(
            *SMALL, "hydra/launcher=ray", f"hydra.launcher.address='{cluster.address}'", "hydra.launcher.cells=8"
        ) == 0  # fmt: skip
    finally:
        cluster.shutdown()
    assert same(records.records("rank_collapse")[0], alone)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_workers_compute_on_as_many_threads_as_they_are_given(launcher, helpers, tmp_path, monkeypatch):
    need(launcher)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    settings, seen = chosen(launcher, "hydra.launcher.workers=2"), [str(tmp_path / n) for n in ("one", "other")]
    with settings.started(1):
        assert sorted(settings.run(helpers.look, seen, 1, tmp_path / "logs")) == [(0, None), (1, None)]
    assert [Path(path).read_text() for path in seen] == ["1 1", "1 1"]
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_grid_size_is_the_number_of_cells():
    for name in ("any_dropout", "global_minimum", "rank_collapse", "dropblock_objective"):
        config = load([f"experiment={name}", "scale=cpu"])
        assert config.cells == len(linear.grid(config, data.load(config.data))[0])
    config = load(["experiment=last_layer_dropout", "scale=cpu"])
    assert config.cells == len(last_layer_dropout.cells_of(config)[0])
    two_seeds = ["seed=[0,1]", "options.places=[features]", "dropout.block_size=4", "dropout.retain=0.5"]
    config = load(["experiment=dropblock_approximation", *two_seeds])
    assert config.cells == 6  # none, disjoint and original, twice


# ---------------------------------------------------------------------- the results folder


def test_the_probe_leaves_nothing(tmp_path, capsys):
    with spread.probe(tmp_path / "results") as token:
        assert token.exists()
        spread._wait_for(token)
    assert list((tmp_path / "results").iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_folder_that_workers_do_not_see(monkeypatch):
    monkeypatch.setattr(spread, "PROBE_TIMEOUT", 0.0)
    with pytest.raises(UserError, match="is another folder on"):
        spread._wait_for(Path("results/.shared-x").absolute())


def test_a_filesystem_without_renames(monkeypatch, tmp_path):
    def refuse(self, target):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match="Operation not supported"), spread.probe(tmp_path / "results"):
        pass
    assert list((tmp_path / "results").iterdir()) == []


def test_a_filesystem_without_locks_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fcntl, "flock", lambda file, kind: None)
    with spread.probe(tmp_path / "results"):
        assert "has no locks" in capsys.readouterr().out


MISTAKES = {
    "hydra/launcher=jobli": "one of joblib, ray, submitit, submitit_local, submitit_slurm; did you mean joblib?",
    "hydra.launcher.wrkers=2": "unknown key hydra.launcher.wrkers; did you mean hydra.launcher.workers?",
    "hydra.launcher.workers=0": "hydra.launcher.workers=0: must be at least 1",
    "hydra.launcher.cells=9": "hydra.launcher.cells=9: input should be a multiple of 8",
}


@pytest.mark.parametrize(("typed", "says"), MISTAKES.items())
def test_a_mistake_is_one_line(typed, says, capsys, tmp_path):
    chosen = [] if typed.startswith("hydra/launcher=") else ["hydra/launcher=joblib"]
    assert run(*TINY, *chosen, typed) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_sbatch_and_with_figures_there_is_no_launcher(capsys, monkeypatch, tmp_path):
    need("submitit_local")
    monkeypatch.setenv("PATH", "")
    assert run(*TINY, "hydra/launcher=submitit_slurm") == 2
    assert "there is no sbatch here; submitit_local needs none" in capsys.readouterr().err
    assert cli.over_all(showing.figures, "", [*TINY, "hydra/launcher=joblib"]) == 2
    assert "only runs have a launcher" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_not_installed(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(*TINY, "hydra/launcher=ray") == 2
    assert "the package ray is not installed; make setup-ray does it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_may_be_elsewhere(monkeypatch):
    monkeypatch.setattr(conf, "cuda_is_usable", lambda: False)
    assert load(["experiment=rank_collapse", "device=cuda"], elsewhere=True).device == "cuda"
    with pytest.raises(UserError, match="no usable NVIDIA GPU here"):
        load(["experiment=rank_collapse", "device=cuda"])
    assert chosen("submitit_slurm").elsewhere
    assert not chosen("submitit_local").elsewhere
