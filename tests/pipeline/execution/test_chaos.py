"""The small form of `make chaos`, and its controls: what it looks for, it finds."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from repro.pipeline.store import Record
from repro.pipeline.store.integrity import seal

FILE = Path(__file__).parents[2] / "chaos" / "chaos.py"
KILLS = 8


@pytest.fixture(scope="module")
def chaos():
    spec = importlib.util.spec_from_file_location("chaos", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["chaos"] = module  # runners look their function up by name
    sys.path.insert(0, str(FILE.parent))
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(FILE.parent))
    del sys.modules["chaos"]


@pytest.fixture(scope="module")
def done(chaos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chaos")
    return folder, chaos.chaos(chaos.SMALL, folder, KILLS, seed=1)


def test_killed_and_damaged_runs_end_as_undisturbed_ones(done):
    _, tally = done
    assert tally.kills >= KILLS
    assert tally.compared >= 3


@pytest.fixture
def copy(done, tmp_path):
    shutil.copytree(done[0] / "clean", tmp_path / "copy")
    return tmp_path / "copy"


def spoil_numbers(results):
    path = next(results.glob("runs/chaos_collapse/*/cells.parquet"))
    record = Record(path.parent)
    record.cells.assign(objective=1.0).to_parquet(path, index=False)
    seal(path.parent)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_numbers,
        lambda results: shutil.rmtree(next(results.glob("runs/chaos_networks/*"))),
        lambda results: shutil.copytree(next(results.glob("runs/*/*")), next(results.glob("runs/*")) / ("0" * 12)),
        lambda results: (results / "runs" / "chaos_collapse" / ".lock-0").touch(),
        lambda results: (results / "checkpoints").mkdir(),
        lambda results: shutil.copytree(next(results.glob("runs/*/*")), results / "damaged" / "a" / "b"),
    ],
    ids=["another number", "lost", "double", "a lock left", "checkpoints left", "a whole one set aside"],
)
def test_the_comparison_sees(chaos, done, copy, spoil):
    assert chaos.compare(copy, done[0] / "clean") == 0
    spoil(copy)
    with pytest.raises(AssertionError):
        chaos.compare(copy, done[0] / "clean")
