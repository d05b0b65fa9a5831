"""What a run will cost, from a few seconds of it: `estimate=true`.

The experiment's own code trains a few cells for a few steps (linear grids), or one network on a few images (deep ones),
at different lengths; the differences between those times are the cost of a step, of a measurement, of an image. Each
length is tried several times, in turn, and its shortest time counts: what else the machine does only adds. Nothing is
recorded. What lengths are tried is known to the kind of training: its function `estimate`.
"""

import contextlib
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from repro.pipeline.execution.making import compute
from repro.pipeline.settings import Config, implementation
from repro.pipeline.store import Run, parts
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress, clock

TRIAL = 0.5  # seconds that the longest trial may take, about
TRIES = 2
GIB = 2**30


@dataclass(frozen=True)
class Estimate:
    """What a run costs."""

    sizes: str  # networks and steps, in words
    seconds: float | None = None  # of the whole run, without W&B and figures; None where it could not be tried
    memory: float = 0.0  # bytes of this machine's memory at the peak
    shares: Mapping[str, float] = field(default_factory=dict)  # where the seconds go, by name
    note: str = ""  # what the estimate takes for granted, or why there is none


def say_all(runs: Sequence[Run]) -> int:
    """Prints the estimate of every run, and their sum; returns the exit code."""
    total = 0.0
    for run in runs:
        found = estimated(run.config)
        print(f"{run.config.name}: {found.sizes}" + ("; it is recorded already" if run.record() else ""))
        if found.seconds is not None:
            shares = ", ".join(f"{name} {clock(seconds)}" for name, seconds in found.shares.items())
            print(f"  time about {clock(found.seconds)} on {run.config.device}: {shares}")
            print(f"  memory about {found.memory / GIB:.1f} GiB", flush=True)
            total += found.seconds
        if found.note:
            print(f"  {found.note}")
    if len(runs) > 1:
        print(f"together about {clock(total)}, one after another")
    return 0


def estimated(config: Config) -> Estimate:
    """Tries a configuration for a few seconds, in this process."""
    try:
        return cast(Estimate, implementation(config.training, "estimate")(config))
    except UserError as mistake:
        return Estimate("not tried", note=str(mistake))


def seconds(config: Config, cells: int | None) -> tuple[float, float]:
    """Seconds of a run that trains its first `cells` cells or all of them, and of the training alone."""
    with tempfile.TemporaryDirectory() as nowhere:
        config = config.model_copy(update={"results": nowhere})
        context = parts.only((0, cells), keep=False) if cells else contextlib.nullcontext()
        started, training = time.monotonic(), None
        try:
            with context:
                compute(config, Progress(config.name, quiet=True))
        except parts.Done as done:
            training = done.seconds
        whole = time.monotonic() - started
        return whole, whole if training is None else training


def changed(config: Config, **changes: Mapping[str, object]) -> Config:
    """A configuration with some settings of some groups changed."""
    groups = {group: getattr(config, group).model_copy(update=values) for group, values in changes.items()}
    return config.model_copy(update=groups)


def peak() -> float:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)
