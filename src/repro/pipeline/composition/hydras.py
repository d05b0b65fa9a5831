"""Hydra's own settings: those that have a meaning here, and what does the same for the others."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import configure_log
from omegaconf import open_dict

from repro.pipeline.composition import conf
from repro.pipeline.composition.typed import key_of
from repro.pipeline.system.errors import UserError

LOGS = ("hydra.verbose", "hydra/job_logging", "hydra.job_logging")
FOLDERS = {False: "hydra.run.dir", True: "hydra.sweep.dir"}
"""Hydra's folder of a single run, and of several."""


def logging_of(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of `overrides` that set the logging of this process, and the others."""
    ours = [text for text in overrides if key_of(text).startswith(LOGS)]
    return ours, [text for text in overrides if text not in ours]


def start_logging(overrides: Sequence[str], extra: Path | None, results: Path) -> None:
    """Logging as `overrides` want it; a file that they leave to Hydra is `logs/run.log` in the results folder.
    Its level is what libraries say, too: our own lines are printed, whatever the logging.

    Raises:
        UserError: no logging of that name, or of these settings.
    """
    if not overrides:
        return
    named = any(key_of(text).startswith(LOGS[1:]) for text in overrides)
    typed = [*overrides, *([] if named else ["hydra/job_logging=stdout"])]
    with conf.explained(typed, extra):
        hydra = conf.compose_all(typed, extra, return_hydra_config=True).hydra
        with open_dict(hydra):
            hydra.runtime.output_dir, hydra.job.name = str(results / "logs"), "run"
        if "${hydra.runtime.output_dir}" in str(hydra._get_node("job_logging")):
            (results / "logs").mkdir(parents=True, exist_ok=True)
        configure_log(hydra.job_logging, hydra.verbose)


def folders(overrides: Sequence[str], *, multirun: bool) -> list[str]:
    """`overrides` with `results` for Hydra's name of it; a `UserError` where that has no effect."""
    found = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key == FOLDERS[not multirun]:
            why = "with" if multirun else "without"
            raise UserError(f"{text}: has no effect {why} -m; {FOLDERS[multirun]} or results says where records go")
        found.append(f"results={value}" if key == FOLDERS[multirun] else text)
    if len([text for text in found if key_of(text) == "results"]) > 1:
        raise UserError(f"{FOLDERS[multirun]} and results are both given; they are the same here")
    return found


INSTEAD = {
    "hydra.sweep.subdir": "a record's folder is its experiment and fingerprint; results=FOLDER says where",
    "hydra.output_subdir": "a record has its configuration in config.yaml",
    "hydra.job.name": "a record is found by its experiment and fingerprint",
    "hydra.job.chdir": "a run stays in the folder of its command; results=FOLDER says where records go",
    "hydra.job.env_set": "NAME=value before the command sets a variable",
    "hydra.searchpath": "--config-dir FOLDER adds one",
    "hydra.mode": "-m runs every combination of the values between commas",
    "hydra/hydra_logging": "hydra/job_logging=stdout and hydra.verbose=true say what is logged",
    "hydra.hydra_logging": "hydra/job_logging=stdout and hydra.verbose=true say what is logged",
    "hydra.callbacks": "what is to follow a run stands behind its command: ... && ...",
    "hydra/callbacks": "what is to follow a run stands behind its command: ... && ...",
    "hydra/help": "--help shows what there is",
    "hydra.help": "--help shows what there is",
}


def refused(text: str) -> UserError:
    """What does here what a setting of Hydra's does elsewhere."""
    key = key_of(text)
    near = [line for known, line in INSTEAD.items() if key == known or key.startswith((f"{known}.", f"{known}/"))]
    return UserError(f"{text}: Hydra's own settings cannot be changed here; {[*near, 'it has no meaning here'][0]}")
