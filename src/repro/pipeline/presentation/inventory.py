"""What lies in a results folder: its records listed, verified, compared and cleared up."""

import argparse
import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from repro.pipeline import cli
from repro.pipeline.settings.loading import load
from repro.pipeline.store.environment import NUMERICAL
from repro.pipeline.store.identity import NOT_IN_FINGERPRINT, flat
from repro.pipeline.store.integrity import damage
from repro.pipeline.store.place import Place, places
from repro.pipeline.store.records import Record
from repro.pipeline.system import locks
from repro.pipeline.system.errors import UserError


def command(description: str | None, arguments: list[str] | None = None) -> int:
    """`scripts/records.py`; returns the exit code."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
    parser.add_argument("--config-dir", type=Path, help="your own folder, with the modules of your experiments")
    parts = parser.add_subparsers(dest="part", required=True)
    about = "each record: scale, seeds, age, size, what differs from the experiment as it ships, and its command"
    for name, text in (("list", about), ("verify", "check every record; exit code 1 if one is damaged")):
        part = parts.add_parser(name, help=text)
        part.add_argument("experiment", nargs="*", help="only these")
        for word in ("newer", "older"):
            part.add_argument(
                f"--{word}", type=_age, metavar="AGE", help=f"only {word} than that, as in 30m, 12h or 7d"
            )
    part = parts.add_parser("diff", help="what two records differ in that counts: settings, code, libraries")
    newest = (
        "two fingerprints or their first digits, or an experiment for its newest two records (default: of the last run)"
    )
    part.add_argument("of", nargs="*", help=newest)
    part = parts.add_parser("prune", help="remove what killed processes left; finished records only on request")
    part.add_argument("--damaged", action="store_true", help="also the damaged records that were set aside")
    part.add_argument("--old", action="store_true", help="also records of other code or libraries than these")
    part.add_argument("--checkpoints", action="store_true", help="also half-trained networks: they begin anew")
    part.add_argument("--dry-run", action="store_true", help="only say what would go")

    def work() -> int:
        options = parser.parse_args(arguments)
        if options.config_dir:
            cli.with_modules_of(options.config_dir)
        if not options.results.is_dir():
            raise UserError(f"--results={options.results}: there is no such folder")
        if options.part == "diff":
            lines, code = diff(*_pair(options.results, options.of)), 0
        elif options.part == "prune":
            chosen = {name for name in ("damaged", "old", "checkpoints") if getattr(options, name)}
            lines, code = list(prune(options.results, chosen, dry_run=options.dry_run)), 0
        else:
            ages = (options.newer, options.older)
            quiet, extra = options.part == "verify", options.config_dir
            lines, code = overview(options.results, options.experiment, ages, extra, quiet=quiet)
        print("\n".join(lines or ["nothing"]))
        return code

    return cli.guarded(work)


Ages = tuple[timedelta | None, timedelta | None]
"""Records must be newer than the first and older than the second."""


def overview(
    results: Path, experiments: list[str], ages: Ages = (None, None), extra: Path | None = None, *, quiet: bool = False
) -> tuple[list[str], int]:
    """What is said of each record, of damaged ones alone if `quiet`, and a sum; the number is 1 if one is damaged. How
    experiments ship stands in `conf/`, or in the user's folder `extra`."""
    lines, intact, damaged = [], 0, 0
    for place in _places(results):
        if experiments and place.name not in experiments:
            continue
        if why := damage(place.path):
            damaged += 1
            lines.append(f"{place.path}  DAMAGED: {why}")
            continue
        record = Record(place.path)
        if _is_of(_age_of(record), ages):
            intact += 1
            lines += [] if quiet else _about(record, extra)
    return [*lines, f"{intact} intact, {damaged} damaged"], int(damaged > 0)


def _about(record: Record, extra: Path | None) -> Iterator[str]:
    config, seeds = record.config, record.config.get("seed")
    size = sum(file.stat().st_size for file in record.path.rglob("*") if file.is_file())
    facts = [
        config["scale"],
        f"seed {', '.join(map(str, seeds if isinstance(seeds, list) else [seeds]))}",
        f"{len(record.cells)} cells",
        f"{size / 1e6:.1f} MB",
        record.summary["finished"],
        *([record.note] if record.note else []),
    ]
    yield f"{record.path}  {'  '.join(facts)}"
    yield f"    {record.summary['command']}"
    if (changes := _changes(record, extra)) is None:
        yield "    of an experiment that is not here"
    elif changes:
        yield f"    not as it ships: {', '.join(changes)}"


def _changes(record: Record, extra: Path | None) -> list[str] | None:
    """The settings of a record in which it is not its experiment as it ships at that scale and on that device; None
    where there is no such experiment."""
    config = record.config
    try:
        shipped = load(
            [f"experiment={record.experiment}", f"scale={config['scale']}"], extra=extra, elsewhere=True
        ).plain()
    except UserError:
        return None
    there, here = _counting(shipped), _counting(config)
    changed = [key for key in sorted(here) if _differ(key, there, here)]
    return [f"{key}={here[key]}" for key in changed if key != "device" and not key.startswith("data.content.")]


def diff(one: Record, other: Record) -> list[str]:
    """`key: this | that` for every setting, part of the code and library in which two records differ, of those that
    have a hand in the numbers."""
    left, right = (
        _counting(record.config)
        | {f"code of {name}": text for name, text in (record.summary["code"].get("modules") or {}).items()}
        | {name: record.summary["environment"]["versions"].get(name, _ABSENT) for name in NUMERICAL}
        for record in (one, other)
    )
    keys = (key for key in sorted({*left, *right}) if _differ(key, left, right))
    return [f"{key}: {left.get(key, _ABSENT)} | {right.get(key, _ABSENT)}" for key in keys] or ["no difference"]


_ABSENT = "(absent)"


def _differ(key: str, left: Mapping[str, object], right: Mapping[str, object]) -> bool:
    return left.get(key, _ABSENT) != right.get(key, _ABSENT)


def _counting(config: Mapping[str, object]) -> dict[str, object]:
    """The settings that are part of the fingerprint."""
    return flat({key: value for key, value in config.items() if key not in NOT_IN_FINGERPRINT})


def _age(text: str) -> timedelta:
    units = {"m": "minutes", "h": "hours", "d": "days"}
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text)):
        raise argparse.ArgumentTypeError(f"{text}: an age is a number of m(inutes), h(ours) or d(ays), as in 12h")
    return timedelta(**{units[found[2]]: float(found[1])})


def _age_of(record: Record) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(record.summary["finished"])


def _is_of(age: timedelta, ages: Ages) -> bool:
    newer, older = ages
    return (newer is None or age < newer) and (older is None or age > older)


def prune(results: Path, chosen: set[str], *, dry_run: bool = False) -> Iterator[str]:
    """Removes leftovers of processes that are no more, and what is `chosen`: `damaged`, `old`, `checkpoints`.

    Runs under way are left alone. Yields a line for each thing that goes.
    """
    recorded = {place.fingerprint: place for place in _places(results)}
    left = [path for path in results.glob("runs/*/.*-*") if path.name.startswith((".lock-", ".tmp-", ".old-"))]
    left += [path for path in results.glob("checkpoints/*") if path.name in recorded or "checkpoints" in chosen]
    if "old" in chosen:
        left += [place.path for place in recorded.values() if damage(place.path) is None and Record(place.path).note]
    for path in left:
        fingerprint = path.name.rpartition("-")[2]
        experiment = path.parent.name if path.parent.name != "checkpoints" else _experiment_of(results, fingerprint)
        place = Place(results, experiment, fingerprint)
        with contextlib.suppress(locks.Taken), contextlib.nullcontext() if dry_run else place.claim(wait=False):
            yield f"{'would remove' if dry_run else 'removed'} {path}"
            if not dry_run and path.exists():  # the claim itself clears up
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    if "damaged" in chosen and (results / "damaged").exists():
        yield f"{'would remove' if dry_run else 'removed'} {results / 'damaged'}"
        if not dry_run:
            shutil.rmtree(results / "damaged")


def _experiment_of(results: Path, fingerprint: str) -> str:
    """Whose run has this fingerprint, by its record or by its lock."""
    found = [*results.glob(f"runs/*/{fingerprint}"), *results.glob(f"runs/*/.lock-{fingerprint}")]
    return found[0].parent.name if found else "unknown"


def _places(results: Path) -> list[Place]:
    return [place for experiment in sorted(results.glob("runs/*")) for place in places(experiment)]


def _pair(results: Path, of: list[str]) -> tuple[Record, Record]:
    if len(of) == 2:
        return _named(results, of[0]), _named(results, of[1])
    if len(of) > 2:
        raise UserError(f"diff {' '.join(of)}: takes two records, or an experiment")
    whole = [Record(place.path) for place in _places(results) if damage(place.path) is None]
    whole.sort(key=lambda record: record.summary["finished"])
    for name in of or [record.experiment for record in reversed(whole)]:
        *_, one, other = [None, None, *(record for record in whole if record.experiment == name)]
        if one is not None and other is not None:
            return one, other
    raise UserError(
        f"{' '.join(['diff', *of])}: there are no two records of {of[0] if of else 'one experiment'} in {results}"
    )


def _named(results: Path, digits: str) -> Record:
    found = [place.path for place in _places(results) if place.fingerprint.startswith(digits)]
    if len(found) != 1:
        which = ", ".join(map(str, found)) or "none"
        raise UserError(f"{digits}: must name one record in {results}; it names {which}")
    if why := damage(found[0]):
        raise UserError(f"{found[0]}: damaged ({why})")
    return Record(found[0])
