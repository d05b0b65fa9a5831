"""Makes a run's record: the experiment runs, is tracked, recorded and drawn."""

import contextlib
import time

import torch

from repro.pipeline.execution import tracking
from repro.pipeline.experiment import experiment
from repro.pipeline.presentation.drawing import draw
from repro.pipeline.presentation.drawing import redraw_if_needed as redraw_if_needed  # for `runner`
from repro.pipeline.settings import Config
from repro.pipeline.settings.look import MOST_PANELS, MOST_SERIES
from repro.pipeline.store import Record, Result, Run, parts
from repro.pipeline.store.misfortunes import misfortunes
from repro.pipeline.system import distributed, locks
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.pipeline.system.threads import torch_threads


def make(run: Run, quiet: bool) -> Record:
    """Runs, records, draws; for the holder of the claim."""
    config = run.config
    print(f"{config.name}: {config.title}", flush=True)
    _check(config)
    experiment(config).check()
    for count, room, what in zip(config.drawn, (MOST_PANELS, MOST_SERIES), ("panels", "series a panel"), strict=True):
        if config.figures and count > room:
            print(f"note: the figures will not show all {count} {what}, there is room for {room}; the record has all")
    with tracking.start(
        config.tracking,
        config.results,
        name=run.label[:128],
        fingerprint=run.place.fingerprint,
        config=config.plain(),
        group=config.name,
        tags=[config.name, config.scale, config.device],
    ) as tracked:
        computing = time.monotonic()
        result = compute(config, Progress(config.name, quiet=quiet, watcher=tracked))
        durations = {"run": time.monotonic() - computing - tracked.beginning}
        if spent := run.parts.spent():
            durations["parts"] = spent
        record = run.write(result, durations)
        figures = draw(run, record, record.figures)[0] if config.figures else {}
        tracked.log_curves(result.cells, result.curves)
        tracked.summary(result.headline)
        tracked.log_figures(figures)
    return record


def compute(config: Config, progress: Progress) -> Result:
    """What the experiment measures, on one thread of torch but where it takes more itself: what the process did
    before, and on how many threads it does it, leaves the numbers of linear networks the same to the bit."""
    with torch_threads(1):
        return experiment(config).run(config, progress)


def make_part(run: Run, part: parts.Part) -> None:
    """Computes one part of a run's grid and leaves it for the run that puts them together.

    Who wants a part that another process is at waits for it, and has nothing left to do.
    """
    with misfortunes(run.config), locks.hold(run.parts.lock(part)):
        if part in run.parts.stored():
            return
        with parts.only(part):
            _share(run.config)


def help(run: Run) -> Record:
    """The share of a data-parallel run that a process other than the first has: it trains, the first one records."""
    _share(run.config)
    return Record(run.place.path)


def _share(config: Config) -> None:
    """What this process computes of a run that another one completes."""
    _check(config)
    with contextlib.suppress(parts.Done):
        compute(config, Progress(config.name, quiet=True))
        raise UserError(
            f"{config.module} has {config.cells} cells, but its run is not in parts, by Run(config).parts.each"
        )


def _check(config: Config) -> None:
    distributed.check(*config.training.layout)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: this PyTorch cannot use the GPU; allowed: cpu")
