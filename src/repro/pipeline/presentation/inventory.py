"""What lies in a results folder: its records listed, verified, compared and cleared up."""

import argparse
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from repro.pipeline import cli
from repro.pipeline.store.identity import flat
from repro.pipeline.store.integrity import damage
from repro.pipeline.store.place import Place, places
from repro.pipeline.store.records import Record
from repro.pipeline.system import locks
from repro.pipeline.system.errors import UserError


def command(description: str | None, arguments: list[str] | None = None) -> int:
    """`scripts/records.py`; returns the exit code."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
    parts = parser.add_subparsers(dest="part", required=True)
    for name, text in (("list", "one line a record"), ("verify", "check every record; exit code 1 if one is damaged")):
        part = parts.add_parser(name, help=text)
        part.add_argument("experiment", nargs="*", help="only these")
    part = parts.add_parser("diff", help="the settings in which two records differ, and their code and libraries")
    part.add_argument("one", help="a fingerprint, or its first digits")
    part.add_argument("other")
    part = parts.add_parser("prune", help="remove what killed processes left; finished records only on request")
    part.add_argument("--damaged", action="store_true", help="also the damaged records that were set aside")
    part.add_argument("--old", action="store_true", help="also records of other code or libraries than these")
    part.add_argument("--checkpoints", action="store_true", help="also half-trained networks: they begin anew")
    part.add_argument("--dry-run", action="store_true", help="only say what would go")

    def work() -> int:
        options = parser.parse_args(arguments)
        if not options.results.is_dir():
            raise UserError(f"--results={options.results}: there is no such folder")
        if options.part == "diff":
            lines, code = diff(_named(options.results, options.one), _named(options.results, options.other)), 0
        elif options.part == "prune":
            chosen = {name for name in ("damaged", "old", "checkpoints") if getattr(options, name)}
            lines, code = list(prune(options.results, chosen, dry_run=options.dry_run)), 0
        else:
            lines, code = overview(options.results, options.experiment, quiet=options.part == "verify")
        print("\n".join(lines or ["nothing"]))
        return code

    return cli.guarded(work)


def overview(results: Path, experiments: list[str], *, quiet: bool = False) -> tuple[list[str], int]:
    """A line for each record, the damaged ones only if `quiet`, and a sum; the number is 1 if one is damaged."""
    lines, intact, damaged = [], 0, 0
    for place in _places(results):
        if experiments and place.name not in experiments:
            continue
        if why := damage(place.path):
            damaged += 1
            lines.append(f"{place.path}  DAMAGED: {why}")
            continue
        intact += 1
        record = Record(place.path)
        if not quiet:
            note = f"  ({record.note})" if record.note else ""
            lines.append(f"{place.path}  {record.summary['finished']}  {len(record.cells)} cells{note}")
    return [*lines, f"{intact} intact, {damaged} damaged"], int(damaged > 0)


def diff(one: Record, other: Record) -> list[str]:
    """`key: this | that` for every setting, code state and library in which two records differ."""
    lines = []
    left, right = (
        flat(record.config)
        | flat({"code": record.summary["code"], "versions": record.summary["environment"]["versions"]})
        for record in (one, other)
    )
    for key in sorted({*left, *right}):
        if left.get(key, _ABSENT) != right.get(key, _ABSENT):
            lines.append(f"{key}: {left.get(key, _ABSENT)} | {right.get(key, _ABSENT)}")
    return lines or ["no difference"]


_ABSENT = "(absent)"


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


def _named(results: Path, digits: str) -> Record:
    found = [place.path for place in _places(results) if place.fingerprint.startswith(digits)]
    if len(found) != 1:
        which = ", ".join(map(str, found)) or "none"
        raise UserError(f"{digits}: must name one record in {results}; it names {which}")
    if why := damage(found[0]):
        raise UserError(f"{found[0]}: damaged ({why})")
    return Record(found[0])
