"""Weights & Biases: a second view of a run, never a condition for one.

    with tracking.start(cfg.tracking, "results", name=..., config=..., group=..., tags=...) as run:
        result = ...
        run.log_curves(result.cells, result.curves)
        run.summary(result.headline)
        run.log_figures({"spectrum": path})

- Offline by default: all goes to `<directory>/wandb/`, nothing is asked and no account is needed.
- An exception in the block marks the run as failed (exit code 1) and goes on to the caller.
- A failure of W&B itself (import, start, logging, network, refused key, full disk) is one line on stderr;
    from then on the run goes untracked. The record in `results/runs/` holds all that is logged here.
- Mode, project, entity, group, tags, name, run id and directory come from the configuration alone:
    WANDB_MODE, WANDB_PROJECT, WANDB_RUN_ID and their like are ignored. Credentials come from where W&B keeps
    them (WANDB_API_KEY, ~/.netrc) and matter in online mode only; WANDB_BASE_URL names a server of one's own.

wandb is imported when a run starts and not at all with `mode=disabled`.
"""

import contextlib
import importlib
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pandas as pd

from repro.pipeline.settings import Tracking
from repro.pipeline.store.identity import flat
from repro.pipeline.system.errors import UserError

# W&B waits longer by default: 90 s for a server that does not answer, without end for the last upload. What
# was not uploaded by then stays in the run's folder, from where `wandb sync` sends it.
START_TIMEOUT_S = 20
FINISH_TIMEOUT_S = 60
# The record keeps code state, environment and hardware; collecting them again costs time.
NOT_COLLECTED = ("disable_git", "disable_code", "x_disable_meta", "x_disable_machine_info", "x_disable_stats")

Begun = Any  # wandb.Run, a name that only its import would give


def _wandb() -> ModuleType:
    """Its import takes seconds, and may fail like anything else of W&B's."""
    return importlib.import_module("wandb")


class Run:
    """What an experiment may log. Without a W&B run behind it every call does nothing."""

    def __init__(self, config: Mapping[str, object], begun: Begun = None) -> None:
        self._config, self._run, self._broken = config, begun, False

    def log_curves(self, cells: pd.DataFrame, curves: pd.DataFrame) -> None:
        """The curves as W&B history, and `cells` as a table.

        Each measurement becomes one curve `<measurement>/<label>` for every configuration, as the mean over
        seeds; the label names the settings in which the cells differ: `objective/block_size=4 p=0.8`.
        """

        def log(run: Begun) -> None:
            rows = mean_curves(cells, curves, self._config) if len(curves) else {}
            # Keeps a curve's last value out of the summary, where every curve's would crowd the headline out. Unescaped
            # dots mean nesting here, and a pattern like `objective/*` does not reach across it.
            for key in {key: None for row in rows.values() for key in row}:
                run.define_metric(key.replace(".", r"\."), summary="none")
            for step, row in rows.items():
                run.log(row, step=step)
            run.log({"cells": _wandb().Table(dataframe=cells)})

        self._guard(log)

    def summary(self, headline: Mapping[str, float]) -> None:
        """The numbers that W&B shows for the whole run."""
        self._guard(lambda run: run.summary.update(dict(headline)))

    def log_figures(self, figures: Mapping[str, str | Path]) -> None:
        """Pictures by name. W&B shows no PDF, so `x.pdf` and `x` mean the `x.png` beside it."""
        paths = {f"figures/{name}": str(Path(path).with_suffix(".png")) for name, path in figures.items()}
        if paths:
            self._guard(lambda run: run.log({name: _wandb().Image(path) for name, path in paths.items()}))

    def _guard(self, action: Callable[[Begun], object], *, last: bool = False) -> None:
        if self._run is None or (self._broken and not last):
            return
        try:
            action(self._run)
        except Exception as error:
            if not self._broken:
                _warn(error, "the run itself is not affected" if last else "the run goes on untracked")
            self._broken = True

    def _finish(self, exit_code: int) -> None:
        self._guard(lambda run: run.finish(exit_code=exit_code), last=True)

    def _discard(self, directory: Path) -> None:
        """A mistake in the command or the data leaves nothing behind."""
        if self._run is None:
            return
        with contextlib.suppress(Exception):
            shutil.rmtree(Path(self._run.dir).parent)
        if not any((directory / "wandb").glob("*run-*")):
            shutil.rmtree(directory / "wandb", ignore_errors=True)  # W&B's own logs are left
        with contextlib.suppress(OSError):
            directory.rmdir()  # if it is empty


@contextlib.contextmanager
def start(
    tracking: Tracking, directory: str | Path, *, name: str, config: dict[str, object], group: str, tags: Sequence[str]
) -> Iterator[Run]:
    """A W&B run around a block; raises no error of its own. W&B makes its folder `wandb` in `directory`."""
    description = {"name": name, "config": config, "group": group, "tags": list(tags)}
    run = Run(config, _start(tracking, description, Path(directory)) if tracking.mode != "disabled" else None)
    try:
        yield run
    except BaseException as error:
        run._finish(exit_code=1)
        if isinstance(error, UserError):
            run._discard(Path(directory))
        raise
    run._finish(exit_code=0)


def _start(tracking: Tracking, description: Mapping[str, object], directory: Path) -> Begun:
    # W&B reads these once, at its import: no reports of its own errors to its makers from an offline run
    # (they make every logged step slower, too), no lines on the console, no files in the home folder.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    for name in ("CACHE", "DATA"):
        os.environ.setdefault(f"WANDB_{name}_DIR", str((directory / "wandb" / name.lower()).absolute()))
    modes: tuple[Literal["online", "offline"], ...] = ("online", "offline")
    for mode in modes[tracking.mode == "offline" :]:
        try:
            run = _begun(tracking, mode, description, directory)
        except Exception as error:
            _warn(error, "going on offline" if mode == "online" else "the run goes on untracked")
            continue
        folder = directory / "wandb" / Path(run.dir).parent.name
        print(f"W&B: {run.url}" if mode == "online" else f"W&B: offline; to upload: wandb sync {folder}")
        return run
    return None


def _begun(tracking: Tracking, mode: str, description: Mapping[str, object], directory: Path) -> Begun:
    wandb = _wandb()
    if mode == "online" and not wandb.login(prompt=False):
        raise RuntimeError("no credentials (wandb login, or WANDB_API_KEY)")
    directory.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(
        silent=True,
        console="off",
        use_dot_wandb=False,
        symlink=False,  # `latest-run` is a race between parallel runs
        init_timeout=START_TIMEOUT_S,
        finish_timeout=FINISH_TIMEOUT_S,
        x_save_requirements=False,
        **dict.fromkeys(NOT_COLLECTED, True),
    )
    return wandb.init(
        mode=mode,
        project=tracking.project,
        entity=tracking.entity,
        dir=str(directory.absolute()),  # W&B's service may have been started in another folder
        # An id of its own keeps runs apart that start in the same second, also where WANDB_RUN_ID is set.
        id=uuid.uuid4().hex[:16],
        resume="never",
        reinit="create_new",
        settings=settings,
        **description,
    )


def mean_curves(cells: pd.DataFrame, curves: pd.DataFrame, config: Mapping[str, object]) -> dict[int, dict[str, float]]:
    """For each step, `{"<measurement>/<label>": mean over the cells with that label}`; see `Run.log_curves`.

    A column of `cells` is a setting if the configuration has a key of its name or if it holds no numbers.
    """
    leaves = {key.rpartition(".")[2] for key in flat(config)}
    settings = leaves | set(cells.select_dtypes(exclude="number"))
    distinguishing: list[str] = []
    for column in cells.columns[cells.columns.isin(list(settings - {"cell", "seed"}))]:
        # p and block_size settle retain: a setting that tells no more cells apart only lengthens the label
        if _groups(cells, [*distinguishing, column]) > _groups(cells, distinguishing):
            distinguishing.append(column)
    labels = []
    for row in cells[distinguishing].itertuples(index=False, name=None):
        values = [f"{value:g}" if isinstance(value, float) else str(value) for value in row]
        labels.append(" ".join(map("=".join, zip(distinguishing, values, strict=True))) or "mean")
    by_cell = dict(zip(cells["cell"], labels, strict=True))
    numbers = curves.select_dtypes("number").columns
    measurements = [column for column in numbers if column not in settings | {"cell", "seed", "step"}]
    means = curves.groupby(["step", curves["cell"].map(by_cell).rename("label")])[measurements].mean()
    rows: dict[int, dict[str, float]] = {}
    for (step, label), row in zip(means.index, means.to_dict("records"), strict=True):
        measured = {f"{key}/{label}": value for key, value in row.items() if not pd.isna(value)}
        rows.setdefault(int(step), {}).update(measured)
    return rows


def _groups(cells: pd.DataFrame, columns: list[str]) -> int:
    return len(cells[columns].drop_duplicates()) if columns else 1


def _warn(error: Exception, rest: str) -> None:
    message = " ".join(str(error).split())[:200] or type(error).__name__
    print(f"warning: W&B: {message}; {rest}", file=sys.stderr)
