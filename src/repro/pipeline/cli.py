"""What every script does around its work: the exit codes, and one line for a user's mistake.

0: done. 1: our mistake, with a traceback. 2: a mistake in the command. 3: no fault of either (disk, memory). 130 and
143: Ctrl-C and SIGTERM. All but the traceback are one line.
"""

import argparse
import importlib
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, cast

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import OmegaConf

from repro.pipeline.composition import conf, help
from repro.pipeline.composition.typed import once
from repro.pipeline.system import signals
from repro.pipeline.system.errors import Misfortune, UserError, disk_is_full, say


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
    except (UserError, Misfortune) as told:
        say(told)
        return 2 if isinstance(told, UserError) else 3
    except KeyboardInterrupt as stopped:
        signals.end_children()
        signals.say()
        return getattr(stopped, "code", 130)
    except BrokenPipeError:  # `run.py --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if disk_is_full(error):
            say(Misfortune("the disk is full; free some space, then the same command goes on from here"))
            return 3
        traceback.print_exc()
        return 1


def _check_environment() -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        value = os.environ.get(name, "").strip(" ")
        if not value:
            os.environ.pop(name, None)
        elif not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", value):
            raise UserError(f"{name}={value} in the environment: must be a whole number of at least 1")
    try:
        os.getcwd()
    except OSError:
        raise UserError("the working directory no longer exists; change to one that does") from None


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Hydra's flags and the overrides, in any order; a `UserError` for an unknown flag, or a wrong --config-dir."""
    parser = get_args_parser()
    parser.exit_on_error = False

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")

    parser.error = refuse  # type: ignore[method-assign]
    try:
        args = parser.parse_intermixed_args(arguments)
    except argparse.ArgumentError as error:
        refuse(str(error))
    args.overrides = once(args.overrides)
    args.extra = with_modules_of(Path(args.config_dir)) if args.config_dir else None
    return args


def with_modules_of(folder: Path) -> Path:
    """A user's folder of settings, whose modules are found from here on, by processes that this one starts too."""
    if not folder.is_dir():
        raise UserError(f"--config-dir={folder}: there is no such folder")
    if (place := str(folder.resolve())) not in sys.path:
        sys.path.insert(0, place)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH"))))
    return folder


def run(arguments: list[str] | None = None) -> int:
    """`scripts/run.py`: one job, or with -m several. All configurations are checked before the first runs."""

    def start() -> int:
        args = parsed(sys.argv[1:] if arguments is None else arguments)
        if args.help:
            print(help.page(args.overrides, args.extra, _taken))
            return 0
        if args.cfg == "job":
            with conf.explained(args.overrides, args.extra):
                config = conf.compose_all(args.overrides, args.extra)
            print(OmegaConf.to_yaml(config, resolve=bool(args.resolve)), end="")
            return 0
        if args.hydra_help or args.cfg or args.info or args.shell_completion:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # lets Hydra's exceptions through, to be put into one line here
            with conf.explained(args.overrides, args.extra):
                # Hydra's own entry point, for what it answers itself: there is nothing that it would run.
                hydra.main(version_base="1.3", config_path=str(conf.CONF), config_name="config")(print)()
            return 0
        for flag in ("config_path", "config_name", "experimental_rerun", "resolve", "package"):
            if getattr(args, flag, None):
                raise UserError(f"--{flag.replace('_', '-')} is not supported here")
        # by name, and here: pandas and all that, for which the page of --help does not wait
        commands = importlib.import_module("repro.pipeline.execution.commands")
        return int(commands.run(args.overrides, args.extra, multirun=args.multirun))

    return guarded(start)


def _taken(experiment: str, extra: Path | None) -> dict[str, list[str]]:
    # by name, and here: the page of no experiment does not wait for it
    loading = importlib.import_module("repro.pipeline.settings.loading")
    return cast(dict[str, list[str]], loading.taken(experiment, extra))


def over_all(
    work: Callable[[Sequence[str], Path | None], int], description: str | None, arguments: list[str] | None = None
) -> int:
    """A script that takes overrides for all experiments: its own --help, else work(overrides, --config-dir)."""

    def start() -> int:
        args = parsed(sys.argv[1:] if arguments is None else arguments)
        if args.help:
            print(f"{description}\nKeys and values: python scripts/run.py --help")
            return 0
        return work(args.overrides, args.extra)

    return guarded(start)
