"""What a sweep will cost, from a few short ones."""

from math import ceil

from repro.pipeline.execution.estimate import TRIAL, TRIES, Estimate, changed, peak, seconds
from repro.pipeline.experiment import experiment
from repro.pipeline.settings import Config
from repro.pipeline.system import threads
from repro.training.sweep import Settings
from repro.training.sweep.engine import log_steps, shard
from repro.training.sweep.noise import CHUNK_NUMBERS

FEW, SOME = 2, 4  # log points of trials


def estimate(config: Config) -> Estimate:
    """T = fixed + steps·step + points·measurement, from three trials on as many cells as the threads take at once."""
    training = config.training
    assert isinstance(training, Settings)
    workers = 1 if config.device == "cuda" else threads.available(config.threads)
    cut, cells = config.cells > 1, config.networks
    size = shard(config.device)
    width = getattr(config.model, "width", 1)
    few = min(cells, size * workers) if cut else cells
    short = max(1, min(CHUNK_NUMBERS // (max(width) if isinstance(width, tuple) else width) ** 2, training.steps // 3))

    def trial(steps: int, log_points: int, count: int = few) -> tuple[float, float]:
        shorter = changed(config, training={"steps": steps, "log_points": log_points})
        return seconds(shorter, count if cut else None)

    trial(short, FEW, min(few, size))  # warms up, and shows the memory that the first cells need
    begun = peak()
    whole, once = trial(short, FEW)
    grown = peak()
    long = short * max(2, min(round(TRIAL / once), training.steps // short))
    lengths = ((short, FEW), (long, FEW), (short, SOME))
    tries = [[trial(*length)[1] for length in lengths] for _ in range(TRIES)]
    base, longer, closer = (min(times) for times in zip(*tries, strict=True))
    points = [len(log_steps(short, count)) for count in (FEW, SOME)]
    step = max(0.0, (longer - base) / (long - short))
    measurement = max(0.0, (closer - base) / max(1, points[1] - points[0]))
    fixed = whole - once + max(0.0, base - short * step - points[0] * measurement)

    rounds = ceil(ceil(cells / size) / workers) / ceil(ceil(few / size) / workers)
    shares = {
        "training": rounds * training.steps * step,
        "measuring": cells / few * len(log_steps(training.steps, training.log_points)) * measurement,
        "the rest": fixed + experiment(config).rest_seconds(config),
    }
    memory = peak() + (cells - few) * (grown - begun) / max(1, few - size)
    sizes = f"{cells:,} cells × {training.steps:,} steps on {workers} threads"
    return Estimate(sizes, sum(shares.values()), memory, shares)
