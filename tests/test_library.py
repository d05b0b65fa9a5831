"""theory, dropout and data as a library: without what the experiments need on top, as in the README."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
MODULES = {"hydra-core": "hydra", "lightning-fabric": "lightning_fabric"}  # where the package has another name
MISSING = sorted({MODULES.get(name, name) for line in EXTRAS["run"] for name in [line.partition(">")[0]]})

ALL = """
import importlib, pkgutil
for name in ("repro.theory", "repro.dropout", "repro.data"):
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
        importlib.import_module(module.name)
"""
LAYERS = """
import torch
from torch import nn
from repro.dropout import DropBlock, DropBlock1d, DropBlock2d, FeatureDropout

model = nn.Sequential(
    nn.Conv2d(3, 16, 3), nn.ReLU(), DropBlock2d(block_size=3, retain=0.9),      # squares of the maps
    nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    nn.Linear(16, 64), DropBlock1d(block_size=4, retain=0.8),                   # runs of features
    nn.Linear(64, 10), FeatureDropout(DropBlock(10, block_size=5, retain=0.9)), # any distribution of masks
)
loss = model(torch.randn(8, 3, 32, 32)).square().mean()
loss.backward()
"""
THEORY = """
import numpy as np
from repro import theory

X, Y = np.random.randn(100, 1000), np.random.randn(80, 1000)     # a column a sample
best = theory.global_minimizer(Y, X, block_size=4, p=0.8)        # A, its singular values, the minimum
print(best.rank, theory.effective_rank(best.singular_values))
U, V = np.random.randn(80, 48), np.random.randn(100, 48)
print(theory.dropblock_objective(U, V, X, Y, block_size=4, retain=0.5))
"""
DATA = """
from repro.data.digit_halves import Settings
from repro.data.linear import load

X, Y = load(Settings(kind="digit_halves", source="mnist5k", root=None, whiten=True))   # the keys of conf/data/
assert X.shape[1] == Y.shape[1] == 5000
"""


def test_what_the_readme_shows_is_what_is_tried():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"```python{code}```" in page for code in (LAYERS, THEORY))


def without(modules, code):
    hidden = f"import sys\nfor name in {modules!r}: sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", hidden + code], capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("code", [ALL, LAYERS, THEORY, DATA], ids=["all", "layers", "theory", "data"])
def test_a_library_needs_none_of_what_experiments_need(code):
    assert {"hydra", "wandb", "matplotlib"} <= set(MISSING)
    done = without(MISSING, code)
    assert (done.returncode, done.stderr) == (0, "")


def test_experiments_need_it():
    assert "hydra" in without(["hydra"], "from repro.pipeline.settings import load").stderr
