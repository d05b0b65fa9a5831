"""Bad luck: a full disk, a folder that may not be written, W&B out of reach, no memory left, a loss that diverges.

Each ends in one line that says what to do, leaves nothing half-done, and the same command succeeds once luck is back.
"""

import http.server
import os
import subprocess
import sys
import threading
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from tiny import experiment as tiny

from repro import records
from repro.dropout import Bernoulli
from repro.papers.structured_dropout import networks
from repro.pipeline import cli
from repro.pipeline.composition import conf
from repro.pipeline.execution import commands, making
from repro.pipeline.presentation import commands as showing
from repro.pipeline.store.integrity import damage
from repro.training.sweep import engine
from repro.training.sweep.noise import Cell, Problem

ROOT = Path(__file__).parents[3]
CONF = ROOT / "tests" / "fixtures" / "conf"
TINY = ["--config-dir", str(CONF), "experiment=tiny", "scale=smoke"]
NETWORKS = ["scale=smoke", "tracking.mode=disabled", "data.subset=100", "training.epochs=2"]
DEEP = ["experiment=last_layer_dropout", *NETWORKS, "options.monte_carlo_masks=64", "dropout.block_size=4"]
FULL = "the disk is full (No space left on device); free some space or name another folder, then the same command"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return cli.run(list(arguments))


def figures(*arguments):
    return cli.over_all(showing.figures, "", list(arguments))


def reproduce_all(*arguments):
    return cli.over_all(commands.reproduce_all, "", list(arguments))


def error_line(capfd):
    error = capfd.readouterr().err
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, error
    return lines[0]


def mounted(size, *options):
    """A small disk at `disk`, or a skipped test."""
    Path("disk").mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", "disk"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")


def remount(option):
    subprocess.run(["mount", "-o", f"remount,{option}", "disk"], check=True)


@pytest.fixture
def disk():
    yield mounted
    subprocess.run(["umount", "disk"], capture_output=True)


# a full disk


@pytest.mark.parametrize("size", ["4k", "12k", "24k", "40k"])  # the record, its figures: 60k in all
def test_a_full_disk(disk, capfd, size):
    disk(size)
    assert run(*TINY, "results=disk/results") == 3
    assert f"error: results=disk/results: {FULL}" in error_line(capfd)
    assert not list(Path("disk").rglob(".*"))
    whole = [path for path in Path("disk").glob("results/runs/tiny/*")]
    assert [damage(path) for path in whole] == [None] * len(whole)
    remount("size=1m")
    assert run(*TINY, "results=disk/results") == 0
    (path,) = Path("disk").glob("results/runs/tiny/*")
    assert damage(path) is None
    assert {figure.suffix for figure in (path / "figures").glob("line.*")} == {".pdf", ".svg", ".png"}


def test_a_disk_that_fills_up_in_training(disk, capfd):
    disk("120k")  # one checkpoint takes more than half of it
    assert run(*DEEP, "results=disk/results") == 3
    assert FULL in error_line(capfd)
    assert not list(Path("disk").rglob(".*"))
    remount("size=20m")
    assert run(*DEEP, "results=disk/results") == 0
    assert run(*DEEP, "results=undisturbed") == 0
    assert not list(Path("disk").rglob("checkpoints"))
    (found,) = records.records("last_layer_dropout", "disk/results")
    (expected,) = records.records("last_layer_dropout", "undisturbed")
    pd.testing.assert_frame_equal(found.cells, expected.cells)


def test_figures_on_a_full_disk(disk, capfd):
    disk("1m")
    assert run(*TINY, "results=disk/results") == 0
    remount(f"size={sum(path.stat().st_blocks for path in Path('disk').rglob('*')) // 2 + 12}k")
    assert figures(*TINY, "results=disk/results") == 3
    assert "error: the disk is full" in error_line(capfd)
    remount("size=1m")
    assert figures(*TINY, "results=disk/results") == 0
    assert not [path for path in Path("disk").rglob(".*") if path.name != ".code"]


@pytest.mark.parametrize("moment", range(1, 12))
def test_no_space_at_any_write(monkeypatch, capfd, moment):
    calls = 0

    def failing(original):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == moment:
                raise OSError(28, "No space left on device")
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for where, name in ((Path, "write_text"), (os, "fsync"), (np, "savez_compressed"), (Path, "mkdir")):
            patch.setattr(where, name, failing(getattr(where, name)))
        assert run(*TINY) == 3
    assert FULL in error_line(capfd)
    assert not list(Path().rglob(".*"))
    assert run(*TINY) == 0
    assert len(list(Path("results/runs/tiny").iterdir())) == 1


# a folder that may only be read


def test_a_folder_that_may_only_be_read(disk, capfd):
    disk("1m")
    assert run(*TINY, "results=disk/results") == 0
    remount("ro")
    assert run(*TINY, "results=disk/results") == 0  # what is recorded is there to be read
    capfd.readouterr()
    assert run(*TINY, "results=disk/results", "seed=5") == 2
    line = error_line(capfd)
    assert line == "error: results=disk/results: cannot be written (Read-only file system); name another folder"


# W&B


class Refusing(http.server.BaseHTTPRequestHandler):
    """A server that knows no key."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"errors":[{"message":"unauthenticated"}]}')

    do_GET = do_POST

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize("server", ["refuses the key", "cannot be reached", "no key"])
def test_wandb_costs_no_run(server, tmp_path):
    answering = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=answering.serve_forever, daemon=True).start()
    port = answering.server_address[1] if server == "refuses the key" else 9
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "WANDB_BASE_URL": f"http://127.0.0.1:{port}"}
    environment |= {} if server == "no key" else {"WANDB_API_KEY": "0" * 40}
    environment["PYTHONPATH"] = os.pathsep.join([str(CONF.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "run.py", *TINY, "tracking.mode=online"],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    answering.shutdown()
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1, done.stderr
    assert warnings[0].startswith("warning: W&B: ")
    assert warnings[0].endswith("; going on offline")
    assert len(list(tmp_path.glob("results/runs/tiny/*/SHA256SUMS"))) == 1
    assert len(list(tmp_path.glob("results/wandb/offline-run-*"))) == 1


# memory


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_that_runs_out(monkeypatch, capfd, device):
    def greedy(config, progress):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(tiny, "run", greedy)
    monkeypatch.setattr(making, "_check", lambda config: None)
    monkeypatch.setattr(conf, "cuda_is_usable", lambda: True)
    assert run(*TINY, f"device={device}") == 3
    line = error_line(capfd)
    assert f"tiny: out of memory on device={device}; smaller: fewer cells" in line
    assert line.endswith("or device=cpu") == (device == "cuda")
    assert not Path("results").exists()


def test_networks_on_the_gpu_say_which_settings_take_memory(monkeypatch, capfd):
    def greedy(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(networks, "train_all", greedy)
    assert run(*DEEP) == 3
    assert "smaller: training.batch_size below 50, model.width below 32" in error_line(capfd)


def test_more_memory_than_there_is(capfd):
    assert run("experiment=rank_collapse", "scale=smoke", "tracking.mode=disabled", "data.samples=10000000000000") == 3
    assert "rank_collapse: out of memory on device=cpu; smaller: fewer cells" in error_line(capfd)
    assert not Path("results").exists()


def test_a_training_process_that_is_killed(monkeypatch, capfd):
    def killed(*arguments):
        raise BrokenProcessPool("A process in the process pool was terminated abruptly")

    monkeypatch.setattr(networks, "_side_by_side", killed)
    assert run(*DEEP, "training.processes=2") == 3
    assert "a training process was killed, by the system if memory ran out; training.processes=1" in error_line(capfd)


def test_reproduce_all_goes_on_after_memory_ran_out_and_stops_at_a_full_disk(monkeypatch, capfd):
    ran = []
    original = tiny.run

    def run(config, progress):
        ran.append(config.seed)
        if config.seed == (1,):
            raise error
        return original(config, progress)

    monkeypatch.setattr(tiny, "run", run)
    error: Exception = torch.OutOfMemoryError("CUDA out of memory.")
    assert reproduce_all(*TINY, "seed=1,2") == 1
    assert "tiny: out of memory" in error_line(capfd)
    assert ran == [(1,), (2,)]
    ran.clear()
    error = OSError(28, "No space left on device")
    assert reproduce_all(*TINY, "seed=1,3") == 3
    assert FULL in error_line(capfd)
    assert ran == [(1,)]


# a loss that diverges

SMALL = ["scale=smoke", "tracking.mode=disabled", "data.in_features=12", "data.out_features=10", "data.samples=80",
         "data.rank=6", "model.width=8", "training.steps=20", "training.log_points=4"]  # fmt: skip
LINEAR = ["dropblock_objective", "any_dropout", "dropconnect", "rank_collapse", "global_minimum"]


def record_of(capfd, *arguments):
    assert run(*arguments) == 0
    (record,) = records.records(arguments[0].removeprefix("experiment="))
    return record, capfd.readouterr()


@pytest.fixture
def top_lines(monkeypatch):
    lines = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, text, **style: lines.append(text))
    return lines


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("rate", [1e4, 0.1])
def test_a_sweep_that_diverges(capfd, top_lines, name, rate):
    few = ["options.monte_carlo_masks=256"] if name in LINEAR[:3] else []
    few += ["options.width_needed=null"] if name == "global_minimum" else []  # which trains nothing
    record, told = record_of(capfd, f"experiment={name}", *SMALL, *few, f"training.learning_rate={rate}")
    assert record.cells.diverged.all() == (rate > 1)
    assert record.cells.diverged.any() == (rate > 1)
    count = len(record.cells)
    figures = {path.stem for path in record.figures.glob("*.pdf")}
    expected = [f"{count} of {count} cells diverged and are left out"] * len(figures) if rate > 1 else []
    assert top_lines == expected
    assert figures
    assert "failed" not in told.err


def test_a_sweep_stops_computing_once_all_have_diverged(monkeypatch):
    X = torch.randn(4, 9, dtype=torch.float64)
    problem, cells = Problem.from_data(X, X), [Cell(Bernoulli(3, 0.5), 0)]
    start = engine.initial_factors(problem, cells, 1.0)
    rates = []
    original = engine.Schedule.factor
    monkeypatch.setattr(engine.Schedule, "factor", lambda self, step: rates.append(step) or original(self, step))
    for rate, steps in ((1e6, range(1, 150)), (1e-3, [300])):
        rates.clear()
        engine.train(problem, cells, start, engine.Schedule(300, rate), log_at=range(0, 300, 10))
        assert len(rates) in steps


def broken(trained):
    """`trained` as if it had diverged in its first epoch."""
    rows = [trained.rows[0], trained.rows[1] | {"train_loss": np.nan, "deterministic": np.nan, "data_fit": np.nan}]
    return networks.Trained(rows, trained.singular_values * np.nan, trained.block_norms * np.nan)


@pytest.mark.parametrize("name", ["last_layer_embedding", "dropblock_approximation"])
@pytest.mark.parametrize("which", ["one", "all"])
def test_networks_that_diverge(monkeypatch, capfd, top_lines, name, which):
    train = networks._train
    jobs = []

    def diverging(job, *arguments):
        jobs.append(job)
        trained = train(job, *arguments)
        return broken(trained) if which == "all" or len(jobs) == 2 else trained

    monkeypatch.setattr(networks, "_train", diverging)
    record, printed = record_of(capfd, f"experiment={name}", *NETWORKS)
    lost = len(jobs) if which == "all" else 1
    assert record.cells.diverged.sum() == lost
    assert record.summary["headline"]["diverged networks"] == lost
    assert "network 1 diverged, and was stopped after epoch 1" in printed.err
    assert set(top_lines) <= {f"{lost} of {len(jobs)} cells diverged and are left out"}
    if which == "one":
        assert top_lines
    (kept,) = {len(record.curves[record.curves.cell == cell]) for cell in record.cells.cell[record.cells.diverged]}
    assert kept == 2
