"""Linear experiments at a size that takes a second, each run once and shared by the tests that look at it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import pytest

from repro.pipeline import plotting, settings, store
from repro.pipeline.execution.making import compute
from repro.pipeline.experiment import Experiment
from repro.pipeline.settings import Config
from repro.pipeline.settings.config import module_of
from repro.pipeline.store import Record, Result
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress

SMALL = [
    "scale=smoke",
    "device=cpu",
    "tracking.mode=disabled",
    "data.in_features=12",
    "data.out_features=10",
    "data.samples=80",
    "data.rank=6",
    "model.width=8",
    "training.learning_rate=0.1",
]


@dataclass(frozen=True)
class Run:
    """What a run returned, and its record as read back from disk."""

    config: Config
    result: Result
    record: Record

    @property
    def curves(self) -> pd.DataFrame:
        return self.record.table("curves")


@pytest.fixture
def told() -> Callable[..., str]:
    """What the one line says that refuses a command."""

    def refused(*overrides: str) -> str:
        with pytest.raises(UserError) as caught:
            settings.load([*overrides])
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refused


@pytest.fixture(scope="session")
def run_linear(tmp_path_factory) -> Callable[..., Run]:
    """Runs an experiment with overrides on top of `SMALL` (or of nothing but the scale) and stores its record."""
    done: dict[tuple[str, ...], Run] = {}

    def run(*overrides: str, small: bool = True) -> Run:
        overrides = (*(SMALL if small else SMALL[:3]), *overrides)
        if overrides not in done:
            folder = tmp_path_factory.mktemp("results")
            config = settings.load([*overrides, f"results={folder}"])
            result = compute(config, Progress("", quiet=True))
            record = store.Run(config).write(result, {})
            done[overrides] = Run(config, result, Record(record.path))
        return done[overrides]

    return run


@pytest.fixture
def drawn(monkeypatch) -> Callable[[Run], dict[str, list]]:
    """The axes with something in them of each figure of a run, drawn from its record without torch or theory."""

    def draw(run: Run) -> dict[str, list]:
        module = Experiment(module_of(run.record.config["module"]))
        for name in ("torch", "repro.theory", "repro.training", "repro.dropout", "repro.data", "repro.data.linear"):
            monkeypatch.setitem(sys.modules, name, None)
        with plotting.style():
            figures = {name: make() for name, make in module.figures(Record(run.record.path)).items()}
            for figure in figures.values():
                figure.draw_without_rendering()  # lays out, and sets every formula
        return {name: [axis for axis in figure.axes if axis.has_data()] for name, figure in figures.items()}

    return draw
