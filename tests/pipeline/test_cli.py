"""The command line: exit codes, one line for a mistake, and nothing left behind by one."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from repro.pipeline import cli
from repro.pipeline.composition import conf
from repro.pipeline.system import signals

ROOT = Path(__file__).parents[2]
CONF = ROOT / "tests" / "fixtures" / "conf"
TINY = ["--config-dir", str(CONF), "experiment=tiny"]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return cli.run(list(arguments))


def script(name, *arguments, **env):
    path = os.pathsep.join([str(CONF.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / name, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"PYTHONPATH": path} | env,
    )


MISTAKES = {
    # what is typed after experiment=tiny: what the line must say
    "dropout.blok_size=4": "unknown key dropout.blok_size; did you mean dropout.block_size?",
    "block_size=4": "unknown key block_size; did you mean dropout.block_size?",
    "data.source=mnist": "unknown key data.source, one of data=digit_contours, digit_halves, half_digits\n",
    "model.depth=3": "unknown key model.depth, one of model=deep_linear\n",
    "zzz=4": "unknown key zzz; --help lists all keys",
    "+dropout.extra=4": "dropout.extra: unknown key",
    "options.factr=1": "unknown key options.factr; did you mean options.factor?",
    "data=digit_halvs": "mnist5k, parquet, rings, sparse_regression, synthetic, tables; did you mean digit_halves?",
    "dropuot=dropblock": "unknown key dropuot; did you mean dropout?",
    "data=3": "data=3: must be one of arrays, cifar10, cifar100, correlated, digit_contours, digit_halves",
    "~dropout": "dropout=null: must be one of bernoulli",
    "~data.kind": "~data.kind: must be one of arrays, cifar10",
    "~seed": "~seed: must be an integer; without it seed is [0,1]",
    "dropout.block_size=banana": "dropout.block_size=banana: must be an integer",
    "dropout.block_size=[1,2.5]": "dropout.block_size=2.5: must be an integer",
    "dropout.block_size=5": "dropout.block_size=5: must divide model.width=48; allowed: 1, 2, 3, 4, 6, 8",
    "dropout.p=1.5": "dropout.p=1.5: must lie in (0, 1)",
    "dropout.p=[0.5,0]": "dropout.p=0: must lie in (0, 1)",
    "dropout.p=null": "neither p nor retain is given",
    "dropout.scheme=dropblok": "must be one of bernoulli, dropblock",
    "training.steps=0": "training.steps=0: must be at least 1",
    "training.steps='300'": 'training.steps="300": must be an integer',
    "training.steps=true": "training.steps=true: must be an integer",
    "training.steps=null": "training.steps=null: must be an integer",
    "training.momentum=1": "training.momentum=1: must lie in [0, 1)",
    "training.learning_rate=nan": "training.learning_rate=",
    "training.steps=${nowhere}": "nowhere",
    "training.dtype=float16": "training.dtype=float16: must be one of float32, float64",
    "data.rank=200": "data.rank=200: must be at most 80",
    "data.kind=image": "data.kind=image: must be one of arrays, cifar10, cifar100, digit_contours, digit_halves",
    "seed=-1": "seed=-1: must be at least 0",
    "seed=[]": "seed=[]: must have 1 or more values",
    "seed=[1,1]": "seed=[1,1]: names 1 twice",
    "seed=1,2": "several values need -m for a run each, or seed=[1,2] for one run over all",
    "options.factor=0": "options.factor=0: must be greater than 0",
    "options.factor=50": "options.factor=50: must be at most model.width=48",
    "scale=big": "scale=big: must be one of auto, smoke, cpu, gpu",
    "device=tpu": "device=tpu: must be one of auto, cpu, cuda",
    "tracking.mode=off": "tracking.mode=off: must be one of offline, online, disabled",
    "name=a/b": "name=a/b: must be lower-case letters",
    "module=nowhere": "module=nowhere: there is no Python module nowhere",
    "seed": "seed: not an override; an override is key=value",
    "seed=[1": "seed=[1: the value cannot be read",
    "hydra.job.num=3": "Hydra's own settings cannot be changed here",
    "--verbose": "--verbose; --help lists the flags",
    "--info=nothing": "argument --info/-i: invalid choice: 'nothing'",
    "--config-name=other": "--config-name is not supported here",
}


def is_one_line(text):
    return text.startswith("error: ") and text.endswith("\n") and text.count("\n") == 1


@pytest.mark.parametrize(("typed", "says"), MISTAKES.items())
def test_a_mistake_is_one_line_and_leaves_nothing(typed, says, capsys, tmp_path):
    assert run(*TINY, typed) == 2
    printed = capsys.readouterr()
    assert is_one_line(printed.err)
    assert says in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("typed", [[], ["seed=3"]])
def test_no_experiment_named(typed, capsys, tmp_path):
    assert run(*typed) == 2
    error = capsys.readouterr().err
    assert is_one_line(error)
    assert "no experiment named" in error
    assert ", ".join(conf.experiments()) in error
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_experiment(capsys):
    assert run("--config-dir", str(CONF), "experiment=tinny") == 2
    error = capsys.readouterr().err
    assert is_one_line(error)
    assert "experiment=tinny: must be one of" in error
    assert "did you mean tiny?" in error


def test_a_gpu_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setattr(conf, "cuda_is_usable", lambda: False)
    assert run(*TINY, "device=cuda") == 2
    assert "device=cuda: no usable NVIDIA GPU here; allowed: auto, cpu" in capsys.readouterr().err


def test_multirun_runs_every_combination(capsys, tmp_path):
    assert run(*TINY, "scale=smoke", "-m", "seed=1,2", "options.factor=1,3") == 0
    assert len(list((tmp_path / "results/runs/tiny").glob("[!.]*"))) == 4
    assert "[4/4] experiment=tiny scale=smoke seed=2 options.factor=3" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize(
    "typed",
    [
        ["-m", "seed=0,1", "seed=2,3"], ["seed=0", "seed=1"], ["seed=0", "+seed=1"], ["seed=0", "++seed=1"],
        ["~seed", "seed=1"], ["scale=smoke", "scale=cpu"], ["dropout=bernoulli", "dropout=gaussian"],
        ["hydra/launcher=joblib", "hydra/launcher=ray"], ["seed=0", "seed=1", "--cfg", "job"],
        ["seed=0", "seed=1", "--help"],
    ],
)  # fmt: skip
def test_a_key_with_two_values_is_refused(typed, capsys, tmp_path):
    assert run(*TINY, *typed) == 2
    printed = capsys.readouterr()
    assert is_one_line(printed.err)
    assert " is given twice, " in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_key_with_the_same_value_twice_is_no_mistake(tmp_path):
    assert run(*TINY, "seed=1", "seed=1") == 0


@pytest.mark.parametrize("typed", [["seed=1,1,2,1"], ["seed=1,2", "options.factor=3,3.0"], ["seed=1,[1],2"]])
def test_the_same_configuration_runs_and_is_shown_once(typed, capsys, tmp_path):
    assert run(*TINY, "scale=smoke", "force=true", "-m", *typed) == 0
    assert len(list((tmp_path / "results/runs/tiny").glob("[!.]*"))) == 2
    printed = capsys.readouterr().out
    assert printed.count("[1/2] ") == printed.count("[2/2] ") == 1
    assert printed.count(": done in ") == 2


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_an_empty_variable_is_unset(name, monkeypatch):
    monkeypatch.setenv(name, " ")
    assert run(*TINY, "--cfg", "job") == 0
    assert name not in os.environ


@pytest.fixture
def _as_before():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize(
    ("typed", "level", "file"),
    [
        (["hydra.verbose=true"], logging.DEBUG, False),
        (["hydra/job_logging=stdout"], logging.INFO, False),
        (["hydra/job_logging=default"], logging.INFO, True),
        (["hydra/job_logging=stdout", "hydra.job_logging.root.level=ERROR"], logging.ERROR, False),
    ],
)
def test_hydras_logging_is_that_of_this_process(typed, level, file, capsys, tmp_path):
    assert run(*TINY, "scale=smoke", *typed) == 0
    assert logging.getLogger().level == level
    assert (tmp_path / "results/logs/run.log").exists() == file
    capsys.readouterr()
    assert run(*TINY, "scale=smoke", *typed) == 0
    assert "cached in" in capsys.readouterr().out  # the same run


@pytest.mark.parametrize("typed", [["hydra.run.dir=x"], ["-m", "hydra.sweep.dir=x", "seed=1,2"]])
def test_hydras_folder_is_that_of_the_results(typed, tmp_path):
    assert run(*TINY, "scale=smoke", *typed) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert len(list((tmp_path / "x/runs/tiny").glob("[!.]*"))) == (2 if "-m" in typed else 1)


def test_multirun_checks_every_job_before_the_first(capsys, tmp_path):
    assert run(*TINY, "-m", "dropout.block_size=1,2,5") == 2
    assert is_one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_the_scale_that_was_picked_is_said(monkeypatch, capsys):
    monkeypatch.setattr(conf, "cuda_is_usable", lambda: False)
    assert run(*TINY) == 0
    assert "scale=cpu, picked by hardware" in capsys.readouterr().out
    assert run(*TINY, "scale=cpu") == 0
    assert "picked" not in capsys.readouterr().out


def test_our_own_mistake_shows_its_traceback(capsys):
    assert run(*TINY, "options.fail=true") == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "ZeroDivisionError: our own mistake" in error


def test_ctrl_c(capsys, tmp_path):
    assert run(*TINY, "options.fail=interrupt") == 130
    assert capsys.readouterr().err.strip() == signals.LINE
    assert not list(tmp_path.glob("results/runs/tiny/[!.]*"))


def test_help_is_quick_and_loads_nothing_heavy(tmp_path):
    started = time.monotonic()
    done = script("run.py", "--help")
    seconds = time.monotonic() - started
    assert (done.returncode, done.stderr) == (0, "")
    for name, title in conf.experiments().items():
        assert f"{name} " in done.stdout
        assert title in done.stdout
    for key in (
        "block_size:",
        "steps:",
        "seed:",
        "-m, --multirun",
        "--shell-completion",
        "bernoulli, dropblock",
    ):
        assert key in done.stdout
    assert seconds < 6  # 1 s on an idle machine; this one may be busy
    assert list(tmp_path.iterdir()) == []


def test_help_imports_neither_torch_nor_pandas():
    code = (
        "import sys, runpy; sys.argv = ['run.py', '--help']\n"
        f"try: runpy.run_path({str(ROOT / 'scripts/run.py')!r}, run_name='__main__')\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "heavy = {'torch', 'pandas', 'wandb', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_mistake_through_the_script(tmp_path):
    done = script("run.py", *TINY, "dropout.blok_size=4")
    assert (done.returncode, done.stdout) == (2, "")
    assert is_one_line(done.stderr)
    done = script("run.py", "--cfg", "job", "experiment=nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert is_one_line(done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_shell_completion():
    query = {"COMP_LINE": "python scripts/run.py dropout=gaussian dropout.corr"}
    done = script("run.py", "-sc", "query=bash", **query)
    assert done.stdout.split() == ["dropout.correlation="]
    done = script("run.py", "-sc", "install=bash")
    assert "complete -o nospace" in done.stdout
    # the installed function answers only for scripts in which it finds this text
    assert "@hydra.main" in (ROOT / "scripts/run.py").read_text()
