"""An experiment as the pipeline sees it: what is claimed, how it runs, how it is shown.

It is a package with a light `__init__`, `run.py` and `figures.py`, or one module of the user's with the functions `run`
and `figures`; the two are imported when they are called.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import cast

from repro.pipeline.claims import Claim
from repro.pipeline.paper import Paper
from repro.pipeline.settings import Config
from repro.pipeline.settings.config import module_of
from repro.pipeline.settings.groups import bound, function
from repro.pipeline.store import Record, Result
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress


@dataclass(frozen=True)
class Experiment:
    """What a module that was found by name says and does."""

    module: ModuleType

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Those that it states, none where it states none."""
        return tuple(getattr(self.module, "CLAIMS", ()))

    @property
    def captions(self) -> Mapping[str, str]:
        """What to look for in each figure."""
        return cast(Mapping[str, str], getattr(self.module, "CAPTIONS", {}))

    @property
    def about(self) -> str:
        """Its docstring after the first paragraph."""
        return (self.module.__doc__ or "").partition("\n\n")[2]

    @property
    def paper(self) -> Paper | None:
        """What the folder of its paper says of that; None for an experiment that is in none."""
        home = self.module.__name__.rpartition(".")[0]
        found = getattr(importlib.import_module(home), "PAPER", None) if home else None
        return found if isinstance(found, Paper) else None

    def check(self) -> None:
        """A `UserError`, before it runs, where the functions to run and to show it are not there, or take others."""
        for name, arguments in {"run": ("config", "progress"), "figures": ("record",)}.items():
            bound(function(self.module, name), *arguments)

    def run(self, config: Config, progress: Progress) -> Result:
        found = function(self.module, "run")(config, progress)
        if not isinstance(found, Result):
            raise UserError(f"{self.module.__name__}.run must return a Result, got {type(found).__name__}")
        return found

    def figures(self, record: Record) -> dict[str, Callable[[], object]]:
        """What draws each figure of Matplotlib, by name; an experiment gives figures, or functions that draw them."""
        found = cast(Mapping[str, object], function(self.module, "figures")(record))
        return {name: made if callable(made) else partial(lambda figure: figure, made) for name, made in found.items()}

    def play(self, record: Record) -> str:
        """Something to play with on the report's page, as HTML with its script; empty where there is none."""
        return cast(str, getattr(self.module, "play", lambda record: "")(record))

    def rest_seconds(self, config: Config) -> float:
        """What a run takes beside training, where it says so."""
        return cast(float, function(self.module, "run", "rest_seconds", lambda config: 0.0)(config))


def experiment(config: Config) -> Experiment:
    """The experiment of a configuration."""
    return Experiment(module_of(config.module))
