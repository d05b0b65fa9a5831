"""Weights & Biases: a second view of a run, never a condition for one.

    with tracking.start(cfg.tracking, "results", name=..., config=..., group=..., tags=...) as run:
        result = ...
        run.log_curves(result.cells, result.curves)
        run.summary(result.headline)
        run.log_figures({"spectrum": path})

- Offline by default: all goes to `<directory>/wandb/`, nothing is asked and no account is needed.
- W&B's run begins with the first training, so that a mistake found before it leaves none.
- An exception in the block marks a run that has begun as failed (exit code 1) and goes on to the caller.
- A failure of W&B itself (import, start, logging, network, refused key, full disk) is one line on stderr;
    from then on the run goes untracked. The record in `results/runs/` holds all that is logged here.
- Mode, project, entity, group, tags, name, run id and directory come from the configuration alone:
    WANDB_MODE, WANDB_PROJECT, WANDB_RUN_ID and their like are ignored. Credentials come from where W&B keeps
    them (WANDB_API_KEY, ~/.netrc) and matter in online mode only; WANDB_BASE_URL names a server of one's own.

wandb is imported when its run begins and not at all with `mode=disabled`.
"""

import contextlib
import importlib
import os
import shutil
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pandas as pd

from repro.pipeline.settings import Tracking
from repro.pipeline.store.identity import flat
from repro.pipeline.system.progress import Rows

# W&B waits longer by default: 90 s for a server that does not answer, without end for the last upload. What
# was not uploaded by then stays in the run's folder, from where `wandb sync` sends it.
START_TIMEOUT_S = 20
FINISH_TIMEOUT_S = 60
# The record keeps code state, environment and hardware; collecting them again costs time.
NOT_COLLECTED = ("disable_git", "disable_code", "x_disable_meta", "x_disable_machine_info", "x_disable_stats")

UNFINISHED = ".unfinished"
"""In the folder of a run that has not come to its end: its successor removes what lies there offline."""
STEP = "step"
"""What the curves are drawn over; W&B's own steps only count what was logged."""

OF_THE_SERVER = ("base_url", "api_key", "http_proxy", "https_proxy", "identity_token_file", "credentials_file")

Begun = Any  # of wandb, whose names only its import would give


def _wandb() -> ModuleType:
    """Its import takes seconds, and may fail like anything else of W&B's."""
    return importlib.import_module("wandb")


class Run:
    """What an experiment may log; what is logged first begins W&B's run. Where that fails, every call does nothing.

    Attributes:
        beginning: the seconds that W&B took to begin.
    """

    def __init__(self, config: Mapping[str, object], begin: Callable[[], Begun]) -> None:
        self._config, self._begin, self._run, self._broken = config, begin, None, False
        self.beginning = 0.0
        self._cells, self._labels = pd.DataFrame(), dict[object, str]()
        self._waiting: dict[tuple[object, str], dict[object, Mapping[str, object]]] = {}
        self._logged: dict[str, set[int]] = {}

    def begin(self) -> None:
        """Now something trains."""
        self._guard(lambda run: None)

    def watch(self, cells: Rows) -> None:
        """Whose curves `see` shows."""
        self._cells = pd.DataFrame(cells)
        self._labels, self._waiting = labels(self._cells, self._config), {}

    def see(self, rows: Rows) -> None:
        """Logs those curves' points of which all seeds are there, the sooner ones waiting for the others."""
        whole: list[Mapping[str, object]] = []
        sizes = Counter(self._labels.values())
        for row in rows:
            point = row["step"], self._labels[row["cell"]]
            seeds = self._waiting.setdefault(point, {})
            seeds[row["cell"]] = row
            if len(seeds) == sizes[point[1]]:
                whole += self._waiting.pop(point).values()
        self._guard(lambda run: self._log(run, self._cells, pd.DataFrame(whole)))

    def log_curves(self, cells: pd.DataFrame, curves: pd.DataFrame) -> None:
        """The curves as W&B history, but for what has been seen, and `cells` as a table.

        Each measurement becomes one curve `<measurement>/<label>` over `step` for every configuration, as the mean over
        seeds; the label names the settings in which the cells differ: `objective/block_size=4 p=0.8`.
        """

        def log(run: Begun) -> None:
            self._log(run, cells, curves)
            run.log({"cells": _wandb().Table(dataframe=cells)})

        self._guard(log)

    def _log(self, run: Begun, cells: pd.DataFrame, curves: pd.DataFrame) -> None:
        for step, row in (mean_curves(cells, curves, self._config) if len(curves) else {}).items():
            new = {key: value for key, value in row.items() if step not in self._logged.setdefault(key, set())}
            for key in new:
                if not self._logged[key]:
                    # No last value in the summary, where every curve's would crowd the headline out. Unescaped dots
                    # mean nesting here, and a pattern like `objective/*` does not reach across it.
                    run.define_metric(key.replace(".", r"\."), summary="none", step_metric=STEP)
                self._logged[key].add(step)
            if new:
                run.log({STEP: step, **new})

    def summary(self, headline: Mapping[str, float]) -> None:
        """The numbers that W&B shows for the whole run."""
        self._guard(lambda run: run.summary.update(dict(headline)))

    def log_figures(self, figures: Mapping[str, str | Path]) -> None:
        """Pictures by name. W&B shows no PDF, so `x.pdf` and `x` mean the `x.png` beside it."""
        paths = {f"figures/{name}": str(Path(path).with_suffix(".png")) for name, path in figures.items()}
        if paths:
            self._guard(lambda run: run.log({name: _wandb().Image(path) for name, path in paths.items()}))

    def _guard(self, action: Callable[[Begun], object], *, last: bool = False) -> None:
        if self._broken and not last:
            return
        if self._run is None:
            started = time.monotonic()
            self._run = self._begin()
            self._broken = self._run is None
            self.beginning = time.monotonic() - started
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:
            if not self._broken:
                _warn(error, "the run itself is not affected" if last else "the run goes on untracked")
            self._broken = True

    def _finish(self, exit_code: int) -> None:
        if self._run is None:
            return
        self._guard(lambda run: run.finish(exit_code=exit_code), last=True)
        if exit_code == 0:
            with contextlib.suppress(OSError):
                (Path(self._run.dir).parent / UNFINISHED).unlink(missing_ok=True)


@contextlib.contextmanager
def start(
    tracking: Tracking,
    directory: str | Path,
    *,
    name: str,
    fingerprint: str,
    config: Mapping[str, object],
    group: str,
    tags: Sequence[str],
) -> Iterator[Run]:
    """A W&B run around a block; raises no error of its own. W&B makes its folder `wandb` in `directory`.

    Args:
        tracking: mode, project and entity.
        directory: the results folder.
        name: what W&B shows.
        fingerprint: of the configuration; it stands among the settings that W&B shows.
        config: the settings.
        group: of runs in W&B.
        tags: of this run in W&B.
    """
    shown = {"name": name, "config": {**config, "fingerprint": fingerprint}, "group": group, "tags": list(tags)}
    begin = partial(_start, tracking, shown, Path(directory), f"{fingerprint[:12]}-")
    run = Run(config, (lambda: None) if tracking.mode == "disabled" else begin)
    try:
        yield run
    except BaseException:
        run._finish(exit_code=1)
        raise
    run._finish(exit_code=0)


def _start(tracking: Tracking, shown: Mapping[str, object], directory: Path, prefix: str) -> Begun:
    for marked in directory.glob(f"wandb/offline-run-*-{prefix}*/{UNFINISHED}"):
        shutil.rmtree(marked.parent, ignore_errors=True)  # what it would have told, this one does
    # W&B reads these once, at its import: no reports of its own errors to its makers from an offline run
    # (they make every logged step slower, too), no lines on the console, no files in the home folder.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    for name in ("CACHE", "DATA"):
        os.environ.setdefault(f"WANDB_{name}_DIR", str((directory / "wandb" / name.lower()).absolute()))
    modes: tuple[Literal["online", "offline"], ...] = ("online", "offline")
    for mode in modes[tracking.mode == "offline" :]:
        try:
            run = _begun(tracking, mode, shown, directory, prefix)
        except Exception as error:
            _warn(error, "going on offline" if mode == "online" else "the run goes on untracked")
            continue
        folder = directory / "wandb" / Path(run.dir).parent.name
        with contextlib.suppress(OSError):
            (folder / UNFINISHED).touch()
        print(f"W&B: {run.url}" if mode == "online" else f"W&B: offline; to upload: wandb sync {folder}")
        return run
    return None


def _begun(tracking: Tracking, mode: str, shown: Mapping[str, object], directory: Path, prefix: str) -> Begun:
    wandb = _wandb()
    if mode == "online" and not wandb.login(prompt=False):
        raise RuntimeError("no credentials (wandb login, or WANDB_API_KEY)")
    directory.mkdir(parents=True, exist_ok=True)
    _forget_settings_files(wandb.setup().settings)
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
        id=f"{prefix}{uuid.uuid4().hex[:16]}",
        resume="never",
        reinit="create_new",
        settings=settings,
        **shown,
    )


def _forget_settings_files(settings: Begun) -> None:
    """W&B's settings files, `wandb/settings` here and at home, say which server and by which way; nothing else of them
    holds for a run."""
    for key in settings.read_system_settings().all():
        if key in type(settings).model_fields and key not in OF_THE_SERVER:
            setattr(settings, key, type(settings).model_fields[key].get_default(call_default_factory=True))


def mean_curves(cells: pd.DataFrame, curves: pd.DataFrame, config: Mapping[str, object]) -> dict[int, dict[str, float]]:
    """For each step, `{"<measurement>/<label>": mean over the cells with that label}`; see `Run.log_curves`.

    A column of `cells` is a setting if the configuration has a key of its name or if it holds no numbers.
    """
    # what is measured along the way may have a setting's name, as the imbalance of blocks that of classes
    cells = cells[[column for column in cells if column == "cell" or column not in curves]]
    by_cell = labels(cells, config)
    numbers = curves.select_dtypes("number").columns
    measurements = [column for column in numbers if column not in ("cell", "seed", "step")]
    means = curves.groupby(["step", curves["cell"].map(by_cell).rename("label")])[measurements].mean()
    rows: dict[int, dict[str, float]] = {}
    for (step, label), row in zip(means.index, means.to_dict("records"), strict=True):
        measured = {f"{key}/{label}": value for key, value in row.items() if not pd.isna(value)}
        rows.setdefault(int(step), {}).update(measured)
    return rows


def labels(cells: pd.DataFrame, config: Mapping[str, object]) -> dict[object, str]:
    """For each cell the settings in which it differs from others, but for its seed."""
    distinguishing: list[str] = []
    for column in cells.columns[cells.columns.isin(list(_settings(cells, config) - {"cell", "seed"}))]:
        # p and block_size settle retain: a setting that tells no more cells apart only lengthens the label
        if _groups(cells, [*distinguishing, column]) > _groups(cells, distinguishing):
            distinguishing.append(column)
    found = []
    for row in cells[distinguishing].itertuples(index=False, name=None):
        values = [f"{value:g}" if isinstance(value, float) else str(value) for value in row]
        found.append(" ".join(map("=".join, zip(distinguishing, values, strict=True))) or "mean")
    return dict(zip(cells["cell"], found, strict=True))


def _settings(cells: pd.DataFrame, config: Mapping[str, object]) -> set[str]:
    keys = {key.rpartition(".")[2] for key in flat(config)}
    return {column for column in cells if column in keys} | set(cells.select_dtypes(exclude="number"))


def _groups(cells: pd.DataFrame, columns: list[str]) -> int:
    return len(cells[columns].drop_duplicates()) if columns else 1


def _warn(error: Exception, rest: str) -> None:
    message = " ".join(str(error).split())[:200] or type(error).__name__
    print(f"warning: W&B: {message}; {rest}", file=sys.stderr)
