"""theory, dropout and data as a library, as the pages show them: without what the experiments need on top."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
# where the package has another name
MODULES = {"hydra-core": "hydra", "lightning-fabric": "lightning_fabric", "torch-pruning": "torch_pruning"}
MISSING = sorted({MODULES.get(name, name) for line in EXTRAS["run"] for name in [line.partition(">")[0]]})

ALL = """
import importlib, pkgutil
for name in ("repro.theory", "repro.dropout", "repro.data"):
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
        importlib.import_module(module.name)
"""
PAGES = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/library.md")]
BLOCKS = [block for page in PAGES for block in re.findall(r"```python\n(.*?)```", page, re.S)]
SHOWN = [block for block in BLOCKS if "import records" not in block]
DATA = """
from repro.data.digit_halves import Settings
from repro.data.linear import load

X, Y = load(Settings(kind="digit_halves", source="mnist5k", root=None, whiten=True))   # the keys of conf/data/
assert X.shape[1] == Y.shape[1] == 5000
"""


def without(modules, code):
    hidden = f"import sys\nfor name in {modules!r}: sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", hidden + code], capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("code", [ALL, *SHOWN, DATA], ids=["all", "readme", "layers", "theory", "data"])
def test_a_library_needs_none_of_what_experiments_need(code):
    assert {"hydra", "wandb", "matplotlib"} <= set(MISSING)
    done = without(MISSING, code)
    assert (done.returncode, done.stderr) == (0, "")


def test_experiments_need_it():
    assert "hydra" in without(["hydra"], "from repro.pipeline.settings import load").stderr
