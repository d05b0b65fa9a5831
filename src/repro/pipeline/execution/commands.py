"""What the scripts do with their overrides."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from repro.pipeline.composition import conf, files, hydras
from repro.pipeline.composition.wording import nearest
from repro.pipeline.execution import launchers, runner
from repro.pipeline.execution.launchers import Launcher
from repro.pipeline.settings.loading import announce, load
from repro.pipeline.store import Run
from repro.pipeline.system.errors import UserError


def run(overrides: Sequence[str], extra: Path | None, *, multirun: bool) -> int:
    """`scripts/run.py`."""
    launcher, rest = _launcher(overrides, extra)
    logging, rest = hydras.logging_of(rest)
    if (sweeper := conf.chosen("sweeper", rest, extra=extra)) is not None:
        return _search(sweeper, rest, extra, launcher, multirun)
    try:
        jobs = conf.jobs(hydras.folders(rest, multirun=multirun), multirun=multirun)
    except conf.NotOurs as setting:
        raise hydras.refused(str(setting)) from None
    runs = [_job(job, extra, launcher) for job in jobs]
    different = [n for n, run in enumerate(runs) if run.config not in [other.config for other in runs[:n]]]
    jobs, runs = [jobs[n] for n in different], [runs[n] for n in different]
    hydras.start_logging(logging, extra, runs[0].results)
    announce([run.config for run in runs], overrides)
    if runs[0].config.estimate:
        return int(runner.heavy("estimate").say_all(runs))
    if launcher is not None:
        found = runner.heavy("spread").execute_all(runs, launcher)
        wrong = [(job, text) for job, text in zip(jobs, found, strict=True) if isinstance(text, str)]
        for job, text in wrong:
            print(f"failed: {' '.join(job)}\n{text}", file=sys.stderr)
        return 1 if wrong else 0

    def attempt(item: tuple[int, Run], wait: bool) -> None:
        number, run = item
        if len(jobs) > 1:
            print(f"[{number}/{len(jobs)}] {' '.join(jobs[number - 1])}", flush=True)
        runner.execute(run, wait=wait)

    runner.one_after_another(list(enumerate(runs, 1)), attempt)
    return 0


def plan(overrides: Sequence[str], extra: Path | None = None, *, launcher: Launcher | None = None) -> list[Run]:
    """The runs that `overrides` ask for: of every experiment, of those of `experiment=a,b`, or of those of `paper=a,b`.
    Says which scale; a `UserError` names an experiment that an override does not fit, and nothing has run by then."""
    overrides = _of_papers(overrides)
    named = any(text.split("=")[0] == "experiment" for text in overrides)
    every = f"experiment={','.join((extra and conf.experiments(extra)) or conf.experiments())}"
    try:
        jobs = conf.jobs([*([] if named else [every]), *overrides], multirun=True)
    except conf.NotOurs as setting:
        raise hydras.refused(str(setting)) from None
    runs: list[Run] = []
    mistakes: dict[str, list[str]] = {}
    for job in jobs:
        try:
            run = _job(job, extra, launcher)
            if run.config not in [other.config for other in runs]:
                runs.append(run)
        except UserError as mistake:
            name = next(text.partition("=")[2] for text in job if text.startswith("experiment="))
            mistakes.setdefault(str(mistake), []).append(name)
    if mistakes:
        lines = [f"{text} (in {', '.join(names)})" if not named else text for text, names in mistakes.items()]
        raise UserError("; ".join(lines))
    announce([run.config for run in runs], overrides)
    return runs


def _of_papers(overrides: Sequence[str]) -> list[str]:
    """The overrides with the experiments of `paper=` in place of its folder's name."""
    asked = next((text for text in overrides if text.partition("=")[0] == "paper"), None)
    if asked is None:
        return list(overrides)
    known, rest = files.folders(), [text for text in overrides if text != asked]
    if both := next((text for text in rest if text.partition("=")[0] == "experiment"), None):
        raise UserError(f"{asked}: goes without {both}, which says already what runs")
    names = asked.partition("=")[2].split(",")
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"paper={unknown[0]}: must be one of {', '.join(known)}{nearest(unknown[0], list(known))}")
    return [f"experiment={','.join(name for paper in names for name in known[paper])}", *rest]


def reproduce_all(overrides: Sequence[str], extra: Path | None) -> int:
    """`scripts/reproduce_all.py`."""
    launcher, rest = _launcher(overrides, extra)
    runs = plan(rest, extra, launcher=launcher)
    if runs[0].config.estimate:
        return int(runner.heavy("estimate").say_all(runs))
    return int(runner.heavy("reproduce").reproduce_all(runs, launcher))


def _search(
    raw: Mapping[str, object],
    overrides: Sequence[str],
    extra: Path | None,
    launcher: Launcher | None,
    multirun: bool,
) -> int:
    """Trials of Optuna's in place of every combination."""
    typed = [text for text in overrides if conf.sets("sweeper", text)]
    try:
        search = runner.heavy("search")
    except ModuleNotFoundError:
        raise UserError(f"{typed[0]}: the package optuna is not installed; make setup does it") from None
    if not multirun:
        raise UserError(f"{typed[0]}: several runs need -m")
    rest = hydras.folders([text for text in overrides if text not in typed], multirun=True)

    def make(job: list[str]) -> Run:
        try:
            conf.jobs(job)
        except conf.NotOurs as setting:
            raise hydras.refused(str(setting)) from None
        return _job(job, extra, launcher)

    return int(search.search(search.validated(raw), rest, make, launcher))


def _job(job: Sequence[str], extra: Path | None, launcher: Launcher | None) -> Run:
    config = load(job, extra=extra, elsewhere=launcher is not None and launcher.elsewhere)
    # what to type to make its record again, on any machine: with the scale picked, unforced
    flags = ["--config-dir", str(extra)] if extra else []
    kept = [text for text in job if text.split("=")[0] not in ("force", "other_code", "estimate", "scale")]
    return Run(config, shlex.join(["python", "scripts/run.py", *flags, *kept, f"scale={config.scale}"]))


def _launcher(overrides: Sequence[str], extra: Path | None) -> tuple[Launcher | None, list[str]]:
    """The launcher that some of `overrides` choose, and the others."""
    raw = conf.chosen("launcher", overrides, extra=extra)
    rest = [text for text in overrides if not conf.sets("launcher", text)]
    return None if raw is None else launchers.validated(raw), rest
