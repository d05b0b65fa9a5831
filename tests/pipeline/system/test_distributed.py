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
    monkeypatch.setattr(distributed, "started", lambda: (0, 4))
    distributed.check(2, 2)
    with pytest.raises(UserError, match="must be 4, the processes that run"):
        distributed.check(2, 1)


def test_a_record_of_one_node_keeps_its_fingerprint():
    config = load(DEEP)
    assert "nodes" not in config.plain()["training"]
    two = load([*DEEP, "training.nodes=2"])
    assert fingerprint(two.plain()) != fingerprint(config.plain())


def test_a_batch_is_shared_evenly():
    with pytest.raises(UserError, match=r"must be a multiple of training.devices=3 times nodes=2"):
        load([*DEEP, "training.devices=3", "training.nodes=2"])
