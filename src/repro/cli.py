"""What every script does around its work: the exit codes, and one line for a user's mistake.

0: done. 1: our mistake, with a traceback. 2: a mistake in the command. 3: no fault of either (disk, memory). 130 and
143: Ctrl-C and SIGTERM. All but the traceback are one line.
"""

import argparse
import io
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repro import signals
from repro.errors import Misfortune, UserError, disk_is_full

if TYPE_CHECKING:
    from repro.config import Config
    from repro.launchers import Launcher
    from repro.records import Record


def guarded(work: Callable[[], int | None]) -> int:
    """Runs `work` and returns the exit code."""
    os.environ["MPLBACKEND"] = "agg"  # nothing is shown in windows, and a mistyped one would stop Matplotlib
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show θ
    try:
        with signals.stoppable():
            _check_environment()
            return work() or 0
    except UserError as mistake:
        say_mistake(mistake)
        return 2
    except Misfortune as misfortune:
        say_mistake(misfortune)
        return 3
    except KeyboardInterrupt as stopped:
        signals.end_children()
        signals.say()
        return getattr(stopped, "code", 130)
    except BrokenPipeError:  # `run.py --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if disk_is_full(error):
            say_mistake(Misfortune("the disk is full; free some space, then the same command goes on from here"))
            return 3
        traceback.print_exc()
        return 1


def _check_environment() -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        value = os.environ.get(name, "1")
        if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", value.strip()):
            raise UserError(f"{name}={value} in the environment: must be a whole number of at least 1")
    try:
        os.getcwd()
    except OSError:
        raise UserError("the working directory no longer exists; change to one that does") from None


def say_mistake(mistake: UserError | Misfortune, before: str = "") -> None:
    print(f"error: {before}{' '.join(str(mistake).split())}", file=sys.stderr)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Hydra's flags and the overrides, in any order.

    Raises:
        UserError: for an unknown flag.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.exit_on_error = False

    def refuse(message: str) -> None:
        raise UserError(f"{message}; --help lists the flags")

    parser.error = refuse  # type: ignore[method-assign, assignment]
    return parser.parse_intermixed_args(arguments)


def run(hydra_app: Callable[[], None], arguments: list[str] | None = None) -> int:
    """`scripts/run.py`: one job, or with -m several. All configurations are checked before the first runs.

    `hydra_app` is the script's `@hydra.main` function, for --cfg, --info and --shell-completion.
    """
    return guarded(lambda: _run(hydra_app, sys.argv[1:] if arguments is None else arguments))


def _run(hydra_app: Callable[[], None], arguments: list[str]) -> int:
    args = parsed(arguments)
    from repro import composition

    extra = Path(args.config_dir) if args.config_dir else None
    if extra and not extra.is_dir():
        raise UserError(f"--config-dir={extra}: there is no such folder")
    if args.help:
        print(composition.help_page(args.overrides, extra=extra))
        return 0
    if args.hydra_help or args.cfg or args.info or args.shell_completion:
        return _hydra(hydra_app, args)
    if refused := next((flag for flag in _NOT_OURS if getattr(args, flag, None)), None):
        raise UserError(f"--{refused.replace('_', '-')} is not supported here")
    launcher = composition.launcher(args.overrides, extra=extra)
    overrides = [text for text in args.overrides if not composition.is_launchers(text)]
    jobs = composition.jobs(overrides, multirun=args.multirun, extra=extra)
    elsewhere = launcher is not None and launcher.elsewhere
    configs = [composition.load(job, extra=extra, elsewhere=elsewhere) for job in jobs]
    composition.announce(configs, overrides)
    if configs[0].estimate:
        from repro import estimate

        return estimate.say_all(configs)
    if launcher is not None:
        return _spread(launcher, jobs, configs, extra)

    from repro import runner

    def attempt(item: tuple[int, list[str], "Config"], wait: bool) -> None:
        number, job, config = item
        if len(jobs) > 1:
            print(f"[{number}/{len(jobs)}] {' '.join(job)}", flush=True)
        runner.execute(config, again(job, config, extra), wait=wait)

    runner.one_after_another(list(zip(range(1, len(jobs) + 1), jobs, configs, strict=True)), attempt)
    return 0


def _spread(launcher: "Launcher", jobs: list[list[str]], configs: list["Config"], extra: Path | None) -> int:
    from repro import spread

    plan = [(config, again(job, config, extra)) for job, config in zip(jobs, configs, strict=True)]
    found = spread.execute_all(plan, launcher)
    wrong = [(job, text) for job, text in zip(jobs, found, strict=True) if isinstance(text, str)]
    for job, text in wrong:
        print(f"failed: {' '.join(job)}\n{text}", file=sys.stderr)
    return 1 if wrong else 0


_NOT_OURS = ("config_path", "config_name", "experimental_rerun", "resolve", "package")


def _hydra(hydra_app: Callable[[], None], args: argparse.Namespace) -> int:
    from repro import composition

    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets Hydra's exceptions through, to be put into one line here
    try:
        hydra_app()
    except composition.NOT_COMPOSED as error:
        extra = Path(args.config_dir) if args.config_dir else None
        raise composition.explained(error, args.overrides, extra) from error
    return 0


def again(job: Sequence[str], config: "Config", extra: Path | None = None) -> str:
    """What to type to make the record of `config` again, on any machine: with the scale picked, unforced."""
    flags = ["--config-dir", str(extra)] if extra else []
    kept = [text for text in job if text.split("=")[0] not in ("force", "estimate", "scale")]
    return shlex.join(["python", "scripts/run.py", *flags, *kept, f"scale={config.scale}"])


def figures(description: str | None, arguments: list[str] | None = None) -> int:
    """`scripts/figures.py`."""

    def work(overrides: list[str], extra: Path | None) -> int:
        from repro import composition
        from repro import figures as rendering

        plan = rendering.plan(overrides, extra)
        composition.announce([config for config, _ in plan], overrides)
        return rendering.render_all(plan)

    return _over_all(work, description, arguments)


def report(description: str | None, arguments: list[str] | None = None) -> int:
    """`scripts/report.py`: exit code 1 where a measured claim fails."""

    def work(overrides: list[str], extra: Path | None) -> int:
        from repro import claims, report

        found = _recorded(overrides, extra)
        verdicts = claims.ledger(found)
        report.print_ledger(verdicts)
        print(f"report: {report.write(found, verdicts, Path(found[0][0].results) / 'report.html')}")
        return 1 if any(verdict.decision == "fails" for verdict in verdicts) else 0

    return _over_all(work, description, arguments)


def compare(description: str | None, arguments: list[str] | None = None) -> int:
    """`scripts/compare.py`: exit code 1 where a record differs from its reference."""

    def work(overrides: list[str], extra: Path | None) -> int:
        from repro import compare, report

        return 0 if compare.print_comparison(_recorded(overrides, extra), report.REFERENCE) else 1

    return _over_all(work, description, arguments)


def export(description: str | None, arguments: list[str] | None = None) -> int:
    """`scripts/export.py`."""

    def work(overrides: list[str], extra: Path | None) -> int:
        from repro import claims, export

        ours, rest = _settings(overrides, ("table", "columns", "out"))
        table = ours.get("table", "ledger")
        if table not in export.TABLES:
            raise UserError(f"table={table}: must be one of {', '.join(export.TABLES)}")
        if table == "ledger":
            found = _recorded(rest, extra)
            frame, results = claims.table(claims.ledger(found)), Path(found[0][0].results)
            name = table
        else:
            given, filters = _settings(rest, ("experiment", "results"))
            if "experiment" not in given:
                raise UserError(f"table={table}: of which experiment? add experiment=NAME")
            results, name = Path(given.get("results", "results")), f"{given['experiment']}_{table}"
            frame = export.load(given["experiment"], table, results, filters)
        chosen = export.select(frame, ours.get("columns"))
        for path in export.write(chosen, Path(ours.get("out", results / "tables" / name))):
            print(f"{path}: {len(chosen)} rows")
        return 0

    return _over_all(work, description, arguments)


def _settings(overrides: Sequence[str], keys: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The values of those `overrides` whose key is one of `keys`, and the other overrides."""
    found: dict[str, str] = {}
    rest = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{text}: not an override; an override is key=value")
        if key not in keys:
            rest.append(text)
        elif found.setdefault(key, value) != value or not value:
            raise UserError(f"{text}: {key} takes one value, once")
    return found, rest


def _recorded(overrides: list[str], extra: Path | None) -> "list[tuple[Config, Record | None, str]]":
    """What `overrides` ask for, the record of each where there is one, and the command that makes it."""
    from repro import composition, figures, records

    plan = figures.plan(overrides, extra)
    composition.announce([config for config, _ in plan], overrides)
    return [
        (config, records.find(config.results, config.name, records.fingerprint(config.plain())), again(job, config))
        for config, job in plan
    ]


def reproduce_all(description: str | None, arguments: list[str] | None = None) -> int:
    """`scripts/reproduce_all.py`."""

    def work(overrides: list[str], extra: Path | None) -> int:
        from repro import reproduce

        return reproduce.reproduce_all(overrides, extra)

    return _over_all(work, description, arguments)


def _over_all(
    work: Callable[[list[str], Path | None], int], description: str | None, arguments: list[str] | None
) -> int:
    def start() -> int:
        args = parsed(sys.argv[1:] if arguments is None else arguments)
        if args.help:
            print(f"{description}\nKeys and values: python scripts/run.py --help")
            return 0
        return work(args.overrides, Path(args.config_dir) if args.config_dir else None)

    return guarded(start)
