"""What is answered from records, and what only says what may be asked, waits for no heavy library. Each in a process of
its own, which at its end tells what it has loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from repro.pipeline import settings
from repro.pipeline.execution import runner
from repro.pipeline.store import Run

ROOT = Path(__file__).parents[2]
TRAINING = {"torch", "torchvision", "lightning_fabric", "wandb"}
COMPUTING = TRAINING | {"scipy"}
DRAWING = {"matplotlib"}
PAPERS = [path.parent for path in sorted((ROOT / "src/repro/papers").glob("*/*/__init__.py"))]

SMALL = [
    *("scale=smoke", "device=cpu", "tracking.mode=disabled", "data.in_features=6", "data.out_features=5"),
    *("data.samples=30", "data.rank=4", "training.steps=6", "training.log_points=3"),
]
RUNS = {
    "rank_collapse": ["model.width=8", "dropout.block_size=[1,4]", "dropout.p=[0.5,0.9]"],
    "deep_linear_regularizer": ["model.depth=[2,3]", "model.width=4", "options.random_networks=20"],
}


def loaded_by(code, folder):
    """The modules that a program has loaded when it ends."""
    end = "\nimport json, sys; print('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + end], cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    *printed, modules = done.stdout.splitlines()
    return set(json.loads(modules)), "\n".join(printed)


def loaded_by_script(name, arguments, folder):
    return loaded_by(
        f"import runpy, sys; sys.argv = {[name, *arguments]!r}\n"
        f"try: runpy.run_path({str(ROOT / 'scripts' / name)!r}, run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n",
        folder,
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder with a record of one experiment of each paper."""
    folder = tmp_path_factory.mktemp("recorded")
    for name, typed in RUNS.items():
        typed = [f"experiment={name}", *SMALL, *typed, f"results={folder / 'results'}"]
        runner.execute(Run(settings.load(typed)), quiet=True)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_a_cached_run(recorded, name):
    modules, printed = loaded_by_script("run.py", [f"experiment={name}", *SMALL, *RUNS[name]], recorded)
    assert printed.startswith(f"{name}: cached in results/runs/{name}/")
    assert modules & (COMPUTING | DRAWING) == set()


@pytest.mark.parametrize("name", RUNS)
def test_figures(recorded, name):
    modules, printed = loaded_by_script("figures.py", [f"experiment={name}", *SMALL, *RUNS[name]], recorded)
    assert f"results/figures/{name}/" in printed
    assert modules & TRAINING == set()
    assert modules >= DRAWING


def test_what_experiments_ask_and_claim_and_how_they_are_shown(tmp_path):
    names = [".".join(path.relative_to(ROOT / "src").parts) for path in PAPERS]
    assert len(names) >= 9
    imports = "import importlib\n"
    modules, _ = loaded_by(imports + f"for name in {names}: importlib.import_module(name).CLAIMS", tmp_path)
    assert modules & (COMPUTING | DRAWING) == set()
    modules, _ = loaded_by(imports + f"for name in {names}: importlib.import_module(name + '.figures')", tmp_path)
    assert modules & COMPUTING == set()


def test_records_are_read(recorded):
    modules, printed = loaded_by(
        "from repro import records; print(len(records.load('rank_collapse', results='results')))", recorded
    )
    assert int(printed) == 4
    assert modules & (COMPUTING | DRAWING) == set()
