"""What a run will cost, from a few seconds of it: `estimate=true`.

The experiment's own code trains a few cells for a few steps (linear grids), or one network on a few images (deep ones),
at different lengths; the differences between those times are the cost of a step, of a measurement, of an image. Each
length is tried several times, in turn, and its shortest time counts: what else the machine does only adds. Nothing is
recorded.
"""

import contextlib
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from repro import parts, records
from repro.config import Config, NetworkTraining, experiment_module, processes
from repro.errors import UserError
from repro.progress import Progress, clock

TRIAL = 0.5  # seconds that the longest trial may take, about
TRIES = 2
FEW, SOME = 2, 4  # log points of trials
GIB = 2**30


@dataclass(frozen=True)
class Estimate:
    """What a run costs.

    Attributes:
        sizes: networks and steps, in words.
        seconds: of the whole run, without W&B and figures; None where it could not be tried.
        memory: bytes of this machine's memory at the peak.
        shares: where the seconds go, by name.
        note: what the estimate takes for granted, or why there is none.
    """

    sizes: str
    seconds: float | None = None
    memory: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def say_all(configs: Sequence[Config]) -> int:
    """Prints the estimate of every configuration, and their sum; returns the exit code."""
    total = 0.0
    for config in configs:
        found = estimated(config)
        recorded = records.find(config.results, config.name, records.fingerprint(config.plain())) is not None
        print(f"{config.name}: {found.sizes}" + ("; it is recorded already" if recorded else ""))
        if found.seconds is not None:
            shares = ", ".join(f"{name} {clock(seconds)}" for name, seconds in found.shares.items())
            print(f"  time about {clock(found.seconds)} on {config.device}: {shares}")
            print(f"  memory about {found.memory / GIB:.1f} GiB", flush=True)
            total += found.seconds
        if found.note:
            print(f"  {found.note}")
    if len(configs) > 1:
        print(f"together about {clock(total)}, one after another")
    return 0


def estimated(config: Config) -> Estimate:
    """Tries a configuration for a few seconds, in this process."""
    import torch

    from repro.training.threads import torch_threads

    with torch_threads(config.threads or torch.get_num_threads()):
        deep = isinstance(config.training, NetworkTraining)
        try:
            return _deep(config) if deep else _linear(config)
        except UserError as mistake:
            return Estimate("not tried", note=str(mistake))


def _linear(config: Config) -> Estimate:
    """T = fixed + steps·step + points·measurement, from three trials on as many cells as the threads take at once."""
    import torch

    from repro.experiments import linear
    from repro.training.noise import CHUNK_NUMBERS
    from repro.training.sweep import SHARD, log_steps

    training: Any = config.training
    module = experiment_module(config.module)
    threads = 1 if config.device == "cuda" else torch.get_num_threads()
    cut = hasattr(module, "grid_size")
    widths, depths = (_listed(getattr(config.model, name, 1)) for name in ("width", "depth"))
    cells = linear.grid_size(config) * len(widths) * len(depths)
    few = min(cells, SHARD * threads) if cut else cells
    short = max(1, min(CHUNK_NUMBERS // max(widths) ** 2, training.steps // 3))

    def trial(steps: int, log_points: int, count: int = few) -> tuple[float, float]:
        changed = _with(config, training={"steps": steps, "log_points": log_points})
        return _seconds(changed, count if cut else None)

    trial(short, FEW, min(few, SHARD))  # warms up, and shows the memory that the first cells need
    begun = _peak()
    whole, once = trial(short, FEW)
    grown = _peak()
    long = short * max(2, min(round(TRIAL / once), training.steps // short))
    lengths = ((short, FEW), (long, FEW), (short, SOME))
    tries = [[trial(*length)[1] for length in lengths] for _ in range(TRIES)]
    base, longer, closer = (min(times) for times in zip(*tries, strict=True))
    points = [len(log_steps(short, count)) for count in (FEW, SOME)]
    step = max(0.0, (longer - base) / (long - short))
    measurement = max(0.0, (closer - base) / max(1, points[1] - points[0]))
    fixed = whole - once + max(0.0, base - short * step - points[0] * measurement)

    rounds = ceil(ceil(cells / SHARD) / threads) / ceil(ceil(few / SHARD) / threads)
    shares = {
        "training": rounds * training.steps * step,
        "measuring": cells / few * len(log_steps(training.steps, training.log_points)) * measurement,
        "the rest": fixed + getattr(module, "rest_seconds", lambda config: 0.0)(config),
    }
    memory = _peak() + (cells - few) * (grown - begun) / max(1, few - SHARD)
    sizes = f"{cells:,} cells × {training.steps:,} steps on {threads} threads"
    return Estimate(sizes, sum(shares.values()), memory, shares)


def _deep(config: Config) -> Estimate:
    """T = fixed + epochs·epoch for one network; an epoch, measurement included, is linear in the images."""
    from repro.data.images import load
    from repro.experiments import deep

    training: Any = config.training
    data: Any = config.data
    module = experiment_module(config.module)
    networks = module.grid_size(config) if hasattr(module, "grid_size") else 1
    count = len(load(data.model_copy(update={"download": False})).train)
    at_once = deep._shares(config, networks)[0] if config.device == "cpu" else 1  # type: ignore[arg-type]

    def trial(batch: int, images: int, epochs: int) -> tuple[float, float]:
        one = {"batch_size": batch, "epochs": epochs, "devices": 1, "nodes": 1, "processes": 1}
        few = {"subset": images, "imbalance": 1.0, "download": False}
        return _seconds(_with(config, training=one, data=few), 1)

    small = min(16, training.batch_size)
    trial(small, 2 * small, 1)  # warms up
    image = trial(small, 2 * small, 1)[1] / (2 * small)  # at most
    batch = min(training.batch_size, count // 6) if 24 * training.batch_size * image < 8 * TRIAL else small
    few, more = 2 * batch, 6 * batch
    lengths = [(n, epochs) for n in (few, more) for epochs in (1, 3)]
    tries = [[trial(batch, *length) for length in lengths] for _ in range(TRIES)]
    times = {length: min(t[i][1] for t in tries) for i, length in enumerate(lengths)}
    whole, once = tries[0][0]
    epoch = {n: max(0.0, (times[n, 3] - times[n, 1]) / 2) for n in (few, more)}
    one_epoch = epoch[more] + (count - more) * max(0.0, epoch[more] - epoch[few]) / (more - few)
    rounds, side_by_side = ceil(networks / at_once), processes(config)
    shares = {
        "training and measuring": rounds * training.epochs * one_epoch / side_by_side,
        "the rest": whole - once + rounds * max(0.0, times[few, 1] - epoch[few]),
    }
    steps = training.epochs * (count // training.batch_size)
    sizes = (
        f"{networks:,} networks × {steps:,} steps ({training.epochs} epochs of {count:,} images), {at_once} at a time"
    )
    note = f"{side_by_side} processes are taken to be as many times as fast as one" if side_by_side > 1 else ""
    return Estimate(sizes, sum(shares.values()), at_once * _peak(), shares, note)


def _seconds(config: Config, cells: int | None) -> tuple[float, float]:
    """Seconds of a run that trains its first `cells` cells or all of them, and of the training alone."""
    with tempfile.TemporaryDirectory() as nowhere:
        config = config.model_copy(update={"results": nowhere})
        context = parts.only((0, cells), keep=False) if cells else contextlib.nullcontext()
        started = time.monotonic()
        training = None
        try:
            with context:
                experiment_module(config.module).run(config, Progress(config.name, quiet=True))
        except parts.Done as done:
            training = done.seconds
        seconds = time.monotonic() - started
        return seconds, seconds if training is None else training


def _with(config: Config, **changes: Mapping[str, Any]) -> Config:
    """A configuration with some settings of some groups changed."""
    groups = {group: getattr(config, group).model_copy(update=values) for group, values in changes.items()}
    return config.model_copy(update=groups)


def _listed(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _peak() -> float:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)
