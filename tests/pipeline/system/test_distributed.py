"""Data-parallel runs whose processes torchrun or SLURM starts: one record, with the curves of one process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from repro import records
from repro.pipeline.execution import runner
from repro.pipeline.settings import load
from repro.pipeline.store import Run
from repro.pipeline.store.identity import fingerprint
from repro.pipeline.system import distributed
from repro.pipeline.system.errors import UserError
from repro.training.network.loop import fabric_of

RUN = str(Path(__file__).parents[3] / "scripts" / "run.py")
DEEP = [
    "experiment=last_layer_dropout", "scale=smoke", "device=cpu", "threads=1", "tracking.mode=disabled",
    "data.subset=150", "dropout.block_size=4", "dropout.retain=0.5", "options.monte_carlo_masks=64",
    "options.without=false",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def finished(*processes):
    """Waits for the processes; none may fail."""
    for process in processes:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output


def begun(*command, **env):
    return subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"} | env, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def with_torchrun():
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    finished(begun(*torchrun, RUN, *DEEP, "training.devices=2"))


def with_slurm():
    """Two nodes of one device each; srun gives every process these variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    step = {
        "SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "job", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NNODES": "2",
        "SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "localhost", "SLURM_LOCALID": "0", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }  # fmt: skip
    command = [sys.executable, RUN, *DEEP, "training.nodes=2"]
    finished(*(begun(*command, **step, SLURM_PROCID=str(rank), SLURM_NODEID=str(rank)) for rank in range(2)))


@pytest.mark.parametrize("start", [with_torchrun, with_slurm])
def test_two_processes_leave_the_record_of_one(start):
    start()
    (two,) = records.records("last_layer_dropout")
    assert two.config["training"]["devices"] * two.config["training"].get("nodes", 1) == 2
    one = runner.execute(Run(load([*DEEP, "results=alone"])), quiet=True).record
    for column in ("train_loss", "deterministic"):
        found, expected = two.curves[column].to_numpy(), one.curves[column].to_numpy()
        assert found[1:] == pytest.approx(expected[1:], rel=1e-4)
    assert not list(Path("results/checkpoints").rglob("*.pt"))


def test_who_started_the_processes():
    assert distributed.started({}) is None
    assert distributed.started({"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "4"}) == (1, 4)
    step = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "3"}
    assert distributed.started(step) == (3, 4)
    assert distributed.started(step | {"SLURM_NTASKS": "1"}) is None
    del step["SLURM_STEP_ID"]  # the batch script itself, before srun
    assert distributed.started(step) is None


def test_processes_and_configuration_must_agree(monkeypatch):
    distributed.check(1, 1)
    distributed.check(4, 1)  # spawned here
    with pytest.raises(UserError, match="several nodes need torchrun or SLURM"):
        distributed.check(2, 2)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    distributed.check(2, 2)
    with pytest.raises(
        UserError, match=r"^torchrun has started 4 processes, and training.devices=2 on 1 machine takes"
    ):
        distributed.check(2, 1)


SRUN = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_ID": "4"}


def test_what_srun_has_started_is_said(tmp_path, monkeypatch):
    """No traceback of Lightning's, which wants --ntasks-per-node, whatever the name of the job."""
    done = begun(sys.executable, RUN, *DEEP, **SRUN)
    output, _ = done.communicate(timeout=100)
    assert (done.returncode, "Traceback" in output) == (2, False), output
    assert "srun (SLURM_NTASKS=2) has started 2 processes, and training.devices=1 on 1 machine takes 1: start" in output
    assert list(tmp_path.iterdir()) == []
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    for name, layout, says in (
        ("SLURM_NTASKS_PER_NODE", (1, 2), "training.devices=1: must be 2, as SLURM_NTASKS_PER_NODE"),
        ("SLURM_NNODES", (2, 1), "training.nodes=1: must be 2, as SLURM_NNODES says"),
    ):
        with monkeypatch.context() as more:
            more.setenv("SLURM_NTASKS_PER_NODE", "")
            more.delenv("SLURM_NTASKS_PER_NODE")  # what `check` sets is taken back
            more.setenv(name, "2")
            with pytest.raises(UserError, match=says):
                distributed.check(*layout)


def test_variables_that_srun_leaves_out_are_no_obstacle(monkeypatch):
    for name, value in {**SRUN, "SLURM_JOB_NAME": "bash", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"}.items():
        monkeypatch.setenv(name, value)
    for name in ("SLURM_NTASKS_PER_NODE", "SLURM_NNODES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    distributed.check(2, 1)
    assert (os.environ["SLURM_NTASKS_PER_NODE"], os.environ["SLURM_NNODES"]) == ("2", "1")
    assert fabric_of(load([*DEEP, "training.devices=2"]).training, "cpu").world_size == 2


@pytest.mark.parametrize("name", ["SLURM_NTASKS", "SLURM_PROCID"])
def test_variables_that_are_left_over_start_nothing(name):
    for value in ("", "x"):
        assert distributed.started({**SRUN, name: value}) is None
    assert distributed.started({"SLURM_NTASKS": "2"}) is None


def test_processes_here_take_a_free_port(monkeypatch):
    with socket.socket() as taken, socket.socket() as other:
        taken.bind(("", 0))
        taken.listen()
        other.bind(("", 0))
        free = str(other.getsockname()[1])
        other.close()
        left = {"MASTER_ADDR": "10.255.255.1", "LOCAL_RANK": "1", "NODE_RANK": "1", "WORLD_SIZE": "7"}
        for name, value in left.items():
            monkeypatch.setenv(name, value)
        for port, kept in ((str(taken.getsockname()[1]), None), ("", None), ("x", None), ("99999", None), (free, free)):
            monkeypatch.setenv("MASTER_PORT", port)
            distributed.on_this_machine()
            assert os.environ.get("MASTER_PORT") == kept
        assert not set(left) & set(os.environ)


def test_a_run_on_two_devices_where_the_port_is_taken(monkeypatch):
    """Fabric takes a free one where none is named."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        monkeypatch.setenv("MASTER_ADDR", "10.255.255.1")
        fabric_of(load([*DEEP, "training.devices=2"]).training, "cpu")
    assert not {"MASTER_PORT", "MASTER_ADDR"} & set(os.environ)


def test_a_record_of_one_node_keeps_its_fingerprint():
    config = load(DEEP)
    assert "nodes" not in config.plain()["training"]
    two = load([*DEEP, "training.nodes=2"])
    assert fingerprint(two.plain()) != fingerprint(config.plain())


def test_a_batch_is_shared_evenly():
    with pytest.raises(UserError, match=r"must be a multiple of training.devices=3 times nodes=2"):
        load([*DEEP, "training.devices=3", "training.nodes=2"])
