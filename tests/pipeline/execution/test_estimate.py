"""`estimate=true`: the arithmetic on trials of known cost, and that nothing is run or written."""

from math import ceil
from pathlib import Path

import pytest
import torch

from repro.pipeline import cli
from repro.pipeline.execution import commands, estimate
from repro.pipeline.settings import load
from repro.training.network import estimate as of_networks
from repro.training.sweep import estimate as of_sweeps
from repro.training.sweep.engine import log_steps

LINEAR = [
    "experiment=rank_collapse", "scale=cpu", "device=cpu", "seed=[0,1,2]", "training.steps=1500",
    "dropout.block_size=[1,2,4,8]", "dropout.p=[0.3,0.4,0.5,0.6,0.7,0.8,0.9,0.95]",
]  # fmt: skip
DEEP = [
    "experiment=last_layer_dropout", "scale=cpu", "device=cpu", "seed=0", "training.processes=2", "training.epochs=12",
    "dropout.block_size=[1,4,8]", "dropout.retain=[0.02,0.5,0.95]", "training.batch_size=50", "data.imbalance=1.0",
]  # fmt: skip
TINY = ["data.in_features=12", "data.out_features=10", "data.samples=80", "data.rank=6", "model.width=8"]
STEP, POINT, FIXED, EPOCH, IMAGE = 2e-3, 5e-2, 0.7, 0.3, 1e-3


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_a_linear_grid(monkeypatch):
    """Trials of 16 cells whose steps, measurements and start cost what we say: the whole run costs their multiples."""

    def seconds(config, cells):
        points = len(log_steps(config.training.steps, config.training.log_points))
        training = config.training.steps * STEP + points * POINT
        return training + FIXED, training

    monkeypatch.setattr(of_sweeps, "seconds", seconds)
    found = estimate.estimated(load([*LINEAR, "threads=2"]))
    assert found.sizes == "96 cells × 1,500 steps on 2 threads"
    assert found.shares["training"] == pytest.approx(6 * 1500 * STEP)  # 96 cells are six times 16
    assert found.shares["measuring"] == pytest.approx(6 * len(log_steps(1500, 40)) * POINT)
    assert found.shares["the rest"] == pytest.approx(FIXED)
    assert found.seconds == pytest.approx(sum(found.shares.values()))


def test_networks(monkeypatch):
    def seconds(config, cells):
        training = FIXED + config.training.epochs * (EPOCH + config.data.subset * IMAGE)
        return training, training

    monkeypatch.setattr(of_networks, "seconds", seconds)
    found = estimate.estimated(load([*DEEP, "threads=1"]))
    shared = estimate.estimated(load([*DEEP, "threads=1", "training.devices=2"]))
    assert found.sizes == "10 networks × 960 steps (12 epochs of 4,000 images), 2 at a time"
    assert found.shares["training and measuring"] == pytest.approx(ceil(10 / 2) * 12 * (EPOCH + 4000 * IMAGE))
    assert found.shares["the rest"] == pytest.approx(5 * FIXED)
    assert shared.shares["training and measuring"] == pytest.approx(10 * 12 * (EPOCH + 4000 * IMAGE) / 2)
    assert "2 processes are taken" in shared.note


@pytest.mark.parametrize("name", ["global_minimum", "dropconnect", "deep_linear_collapse", "last_layer_dropout"])
def test_it_says_and_writes_nothing(name, capsys, tmp_path, monkeypatch):
    for module in (of_sweeps, of_networks):
        monkeypatch.setattr(module, "TRIAL", 0.01)
        monkeypatch.setattr(module, "TRIES", 1)
    threads = torch.get_num_threads()
    small = ["scale=smoke", "device=cpu"] + (["data.subset=300"] if "layer" in name else [*TINY, "training.steps=30"])
    small += [] if "collapse" in name or "minimum" in name else ["options.monte_carlo_masks=64"]
    if "collapse" in name:  # what it takes beside training
        small += ["model.depth=[2,3]", "dropout.retain=[0.3,0.9]", "options.starts=1"]
    assert cli.run([f"experiment={name}", *small, "estimate=true"]) == 0
    printed = capsys.readouterr().out
    assert f"{name}: " in printed
    assert "time about" in printed
    assert "GiB" in printed
    assert list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() == threads


def test_data_that_are_not_here_are_no_error(capsys, tmp_path):
    missing = ["experiment=last_layer_dropout", "data=cifar10", "data.root=nowhere", "data.download=true"]
    assert cli.run([*missing, "scale=cpu", "device=cpu", "estimate=true"]) == 0
    assert "not tried" in capsys.readouterr().out
    assert not Path("nowhere").exists()


def test_several_are_added_up(monkeypatch, capsys):
    monkeypatch.setattr(estimate, "estimated", lambda config: estimate.Estimate("1 cell", 60.0))
    overrides = ["experiment=rank_collapse,dropconnect", "scale=smoke", "estimate=true"]
    assert cli.over_all(commands.reproduce_all, "", overrides) == 0
    assert "together about 2 min 00 s" in capsys.readouterr().out
