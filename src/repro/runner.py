"""One configuration, from the cache or run anew, to a record with its figures."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro import records, tracking
from repro.config import Config, experiment_module
from repro.errors import UserError
from repro.progress import Progress, clock
from repro.records import Record


@dataclass(frozen=True)
class Outcome:
    """A run's record, whether it was there already, and the seconds that this call took."""

    record: Record
    cached: bool
    seconds: float


def execute(config: Config, command: str, *, quiet: bool = False) -> Outcome:
    """Runs the experiment that `config` describes, unless its record exists and `config.force` is false.

    A run that fails or is interrupted leaves no record; W&B shows it as failed. `command` is stored as what a
    reader types to make the record again. `quiet` shows no progress.
    """
    started = time.monotonic()
    plain = config.plain()
    fingerprint = records.fingerprint(plain)
    found = None if config.force else records.find(config.results, config.name, fingerprint)
    if found is not None:
        note = _code_note(found)
        print(f"{config.name}: cached in {found.path} (force=true runs it anew){note}", flush=True)
        redraw_if_needed(config.module, found)
        return Outcome(found, True, time.monotonic() - started)

    print(f"{config.name}: {config.title}", flush=True)
    _prepare_torch(config)
    with tracking.start(
        config.tracking,
        name=f"{config.name}-{fingerprint}",
        config=plain,
        group=config.name,
        tags=[config.name, config.scale, config.device],
        directory=config.results,
    ) as run:
        computing = time.monotonic()
        result = experiment_module(config.module).run(config, Progress(config.name, quiet=quiet))
        durations = {"run": time.monotonic() - computing}
        record = records.write(config.results, plain, result, command=command, durations=durations, force=config.force)
        figures = draw(config.module, record, record.figures)
        run.log_curves(result.cells, result.curves)
        run.summary(result.headline)
        run.log_figures({name: path.with_suffix(".png") for name, path in figures.items()})
    report(record)
    seconds = time.monotonic() - started
    print(f"{config.name}: done in {clock(seconds)}, record {record.path}", flush=True)
    return Outcome(record, False, seconds)


def redraw_if_needed(module: str, record: Record) -> None:
    """Draws a record's figures beside it where they are missing or the code has changed since they were drawn."""
    stamp = record.figures / ".code"
    source = records.code_state()["source"]
    if not stamp.is_file() or stamp.read_text() != source:
        draw(module, record, record.figures)


def draw(module: str, record: Record, folder: Path) -> dict[str, Path]:
    """Draws a record's figures as PDF and PNG into `folder`; returns their paths without suffix by name."""
    from repro import plotting

    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    with plotting.style():
        for name, figure in experiment_module(module).figures(record).items():
            paths[name] = folder / name
            plotting.save(figure, paths[name])
    if folder == record.figures:
        (folder / ".code").write_text(records.code_state()["source"])
    return paths


def report(record: Record) -> None:
    """Prints a record's headline and figures."""
    for line in headline(record.summary["headline"]):
        print(f"  {line}")
    for path in sorted(record.figures.glob("*.pdf")):
        print(f"  figure {path.with_suffix('')}.{{pdf,svg,png}}")


def headline(numbers: Mapping[str, Any]) -> list[str]:
    """`name value` lines, four digits."""
    return [f"{name} {'n/a' if value is None else f'{value:.4g}'}" for name, value in numbers.items()]


def _code_note(record: Record) -> str:
    then, now = record.summary["code"]["source"], records.code_state()["source"]
    return "" if then == now else "; note: the code has changed since that run"


def _prepare_torch(config: Config) -> None:
    if config.threads is None and config.device == "cpu" and "torch" not in sys.modules:
        return  # the experiment imports it when it needs it
    import torch

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: this PyTorch cannot use the GPU; allowed: cpu")
