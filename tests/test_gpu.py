"""`make gpu`, as far as it goes without one: what it does in which order, and its benchmarks on a pretended GPU."""

import importlib.util
import json
import re
import subprocess
import sys
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest
from pretended import pretended

from repro.pipeline.composition import files
from repro.pipeline.execution import commands
from repro.pipeline.presentation import reference
from repro.pipeline.system.errors import UserError

ROOT = Path(__file__).parents[1]


def module(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def script():
    return module("scripts/gpu.py")


def test_everything_once_and_the_first_first(script, tmp_path):
    names = [name for name, _ in script.steps(tmp_path)]
    experiments = [name.partition(" ")[2] for name in names if name.startswith("experiment ")]
    assert sorted(experiments) == sorted(files.experiments())
    assert experiments[: len(script.FIRST)] == list(script.FIRST)
    assert names[: 1 + len(script.BENCHMARKS)] == ["tests", *(f"benchmark {name}" for name in script.BENCHMARKS)]
    for name, command in script.steps(tmp_path, ["seed=[0]"]):
        assert command[0] == "-m" or (ROOT / command[0]).exists()
        assert ("seed=[0]" in command) == name.startswith("experiment")


@pytest.mark.parametrize(("gpu", "again"), [("H100", False), (None, True)])
def test_what_is_measured_is_not_measured_again(script, tmp_path, gpu, again):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/gpu.json").write_text(json.dumps({"environment": {"gpu": gpu}}))
    assert ("benchmark gpu" in dict(script.steps(tmp_path))) == again


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--minutes", "-1"], "--minutes -1: must be positive"),
        (["scale=smoke"], "scale=smoke: this is for scale=gpu"),
        (["no.such=1"], "planned: scale=gpu no.such=1"),
    ],
)
def test_mistakes_are_told_first(script, typed, told, monkeypatch):
    def plan(overrides):
        raise UserError(f"planned: {' '.join(overrides)}")

    monkeypatch.setattr(script.conf, "cuda_is_usable", lambda: True)
    monkeypatch.setattr(script, "plan", plan)
    monkeypatch.setattr(script, "run", lambda *_: pytest.fail("something ran"))
    monkeypatch.setattr(sys, "argv", ["gpu.py", *typed])
    with pytest.raises(UserError, match=re.escape(told)):
        script.main()


def test_how_a_step_ended(script):
    assert script.run(["-c", "pass"], 60) == "done"
    assert script.run(["-c", "raise SystemExit(3)"], 60).startswith("exit code 3 ")
    assert script.run(["-c", "import time; time.sleep(600)"], 1.0) == "stopped after 1 s, the next call goes on"


def test_what_is_packed(script, tmp_path):
    for name in ("reference/gpu/runs/a.txt", "bench/gpu.json", "runs/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    script.pack(tmp_path)
    with tarfile.open(tmp_path / "gpu.tar.gz") as archive:
        found = [member.name for member in archive.getmembers() if member.isfile()]
    assert sorted(found) == ["bench/gpu.json", "reference/gpu/runs/a.txt"]


def test_without_a_gpu_it_is_one_line():
    if importlib.import_module("torch").cuda.is_available():
        pytest.skip("there is a GPU here")
    found = subprocess.run([sys.executable, "scripts/gpu.py"], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "error: make gpu: no usable NVIDIA GPU here; make reproduce-all needs none\n"


def test_its_tests_are_those_that_need_a_gpu():
    asks = [path for path in ROOT.glob("tests/**/test_*.py") if "not torch.cuda.is_available()" in path.read_text()]
    for path in asks:
        lines = path.read_text().splitlines()
        for before, line in pairwise(lines):
            if line.startswith("@pytest.mark.skipif(not torch.cuda.is_available()"):
                assert before == "@pytest.mark.gpu", path
    assert len(asks) > 3


@pytest.mark.parametrize("make", ["engine", "noise", "pruning"])
def test_benchmarks_run(make, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    bench = module("benchmarks/gpu.py")
    sizes = {"CELLS": 16, "PEERS_CELLS": 4, "STEPS": 2, "WIDTH": 16, "DEPTH": "resnet20", "BATCH": 8, "UPDATES": 2}
    for name, value in sizes.items():
        monkeypatch.setattr(bench, name, value)
    with pretended() as gpu:
        for name, (call, steps) in getattr(bench, make)("cuda").items():
            gpu.waits.clear()
            call()
            once = gpu.waits.copy()
            call()
            assert steps > 0
            assert name == "engine" or (gpu.waits - once).total() <= once.total()


# ---------------------------------------------------------------------- results/reference


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


CONF = ROOT / "tests/fixtures/conf"
TINY = ["experiment=tiny", "scale=smoke", "device=cpu"]


def test_records_are_taken_once(here, capsys):
    commands.run(TINY, CONF, multirun=False)
    taken = here / "results/reference/smoke"
    assert reference.take(TINY, CONF) == 0
    assert "taken into" in capsys.readouterr().out
    [record] = (taken / "runs/tiny").iterdir()
    assert (record / "SHA256SUMS").exists()
    assert [*(taken / "figures/tiny").glob("*.p*")]
    assert reference.take(TINY, CONF) == 0
    assert "taken" not in capsys.readouterr().out
    (record / "cells.parquet").write_bytes(b"damaged")
    assert reference.take(TINY, CONF) == 0
    assert "taken into" in capsys.readouterr().out


def test_what_is_not_there_is_not_taken(here, capsys):
    assert reference.take(TINY, CONF) == 1
    assert "tiny: not taken, there is no record" in capsys.readouterr().out


def test_references_are_not_taken_from_themselves(here):
    with pytest.raises(UserError, match="is where references are taken to"):
        reference.take([*TINY, "results=results/reference/smoke"], CONF)
