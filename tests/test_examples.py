"""The examples, as their page says: every command of it runs, and leaves figures and a verdict."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from repro import records
from repro.dropout.distribution import masks_of
from repro.pipeline import cli
from repro.pipeline.presentation import commands, inventory
from repro.pipeline.settings import find

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line)[2:] for line in re.findall(r"^python scripts/run\.py .*$", PAGE, re.MULTILINE)]
SMOKE = ["scale=smoke", "device=cpu", "tracking.mode=disabled"]
QUICK = {"any_dropout": ["training.steps=20", "model.width=8"], "rank_collapse": ["training.steps=40", "model.width=8"]}
YAML = sorted((ROOT / "examples").glob("*/*.yaml"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """A user's folder, and nothing of it afterwards."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    yield
    for path in (ROOT / "examples").glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("typed", COMMANDS, ids=" ".join)
def test_each_command_of_the_page(typed, capsys):
    experiment = typed[2].removeprefix("experiment=")
    assert cli.run([*typed, *SMOKE, *QUICK.get(experiment, [])]) == 0, capsys.readouterr().err
    told = capsys.readouterr()
    assert "failed" not in told.err
    assert "figure results/runs/" in told.out
    chosen = {text.partition("=")[2] for text in typed if text.startswith(("dropout=", "data=", "model="))}
    (record,) = records.records(experiment)
    assert chosen <= {
        record.config["data"]["kind"],
        record.config["model"]["kind"],
        *record.config["dropout"]["scheme"],
    }


def test_there_is_a_command_for_each():
    typed = " ".join(map(" ".join, COMMANDS))
    assert {f"{path.parent.name}={path.stem}" for path in YAML} <= {*typed.split()}


def test_an_experiment_is_drawn_judged_and_listed_where_nothing_else_knows_it(tmp_path, capsys):
    def typed(script, *arguments):
        command = [sys.executable, ROOT / "scripts" / script, "--config-dir", "examples", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)

    # on a worker that starts anew, and knows of the folder by its environment alone
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.workers=1", "figures=false"]
    done = typed("run.py", "experiment=enough_masks", "dropout=shared_coin", *SMOKE, *launcher)
    assert done.returncode == 0, done.stderr
    again = ["--config-dir", "examples", "experiment=enough_masks", "dropout=shared_coin", *SMOKE]
    assert cli.over_all(commands.figures, "", again) == 0
    assert (tmp_path / "results" / "figures" / "enough_masks" / "error.pdf").is_file()
    assert cli.over_all(commands.report, "", again) == 0
    assert "✓ holds" in capsys.readouterr().out
    assert inventory.command("", ["--config-dir", "examples", "list"]) == 0
    assert "2 cells" in capsys.readouterr().out


def test_help_lists_them(capsys):
    assert cli.run(["--config-dir", "examples", "--help"]) == 0
    page = capsys.readouterr().out
    for name in (path.stem for path in YAML):
        assert re.search(rf"\b{name}\b", page), name
    assert cli.run(["--help"]) == 0
    page = capsys.readouterr().out
    assert "shared_coin" not in page
    assert "examples/README.md" in page


def test_the_covariance_of_the_noise_is_that_of_its_masks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    settings = find("dropout", "shared_coin")(scheme="shared_coin", together=0.3)
    masks = masks_of(settings, 3, 1, 0.7)
    drawn = masks.sample(200_000, torch.Generator().manual_seed(0), torch.float64)
    torch.testing.assert_close(drawn.T.cov(), masks.covariance, atol=3e-3, rtol=0)
    torch.testing.assert_close(drawn.mean(0), masks.mean, atol=5e-3, rtol=0)
