"""What a run leaves behind: one folder per configuration, written whole or not at all.

    results/runs/<experiment>/<fingerprint>/
        config.yaml      the resolved configuration
        cells.parquet    one row per grid cell: its configuration, final measurements, theory values
        curves.parquet   long form, one row per logged step and grid cell
        arrays.npz       whatever is no table: singular values, factors
        summary.json     title, command, headline, seeds, durations, environment, code state
        SHA256SUMS       of the files above, as `sha256sum --check` reads them
        figures/         drawn from the files above; may be deleted and redrawn

The fingerprint is a hash of what determines the numbers, so the same configuration always has the same
folder: a record that exists is a run that need not be repeated. Who runs it holds its `claim`; a record that does
not fit its checksums counts as absent, and the next claim sets it aside. A sweep is read with `load`:

    >>> from repro import records
    >>> cells = records.load("rank_collapse", block_size=[1, 4], p=0.8)

Nothing here imports torch: reading records and drawing figures start fast.
"""

import contextlib
import difflib
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from repro import locks

# Settings that change where results go, what they are called or who watches, never the numbers. `scale` is
# one of them because the sizes that it chose stand in the resolved configuration themselves.
NOT_IN_FINGERPRINT = ("tracking", "results", "force", "estimate", "scale", "title", "paper")

FILES = ("config.yaml", "cells.parquet", "curves.parquet", "arrays.npz", "summary.json")
CHECKSUMS = "SHA256SUMS"
SETTLE_S = 10  # far longer than a writer takes between its two renames
TABLES = ("cells", "curves", "runs")
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "hydra-core",
    "pydantic",
    "lightning-fabric",
    "wandb",
)
# Those of them whose version may change the numbers of the same code.
NUMERICAL = ("torch", "torchvision", "numpy", "scipy", "lightning-fabric")
PACKAGE_ROOT = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Result:
    """What an experiment's `run` returns.

    - `cells`: one row per grid cell; a unique integer column `cell`, the cell's configuration, final
        measurements and theory values.
    - `curves`: one row per logged step and cell, with the columns `cell` and `step`; may be empty.
    - `arrays`: named arrays (no object arrays).
    - `headline`: the few numbers that are printed at the end.

    Raises a ValueError where tables and arrays do not have that form.
    """

    cells: pd.DataFrame
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    headline: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "cell" not in self.cells or not self.cells["cell"].is_unique:
            raise ValueError(f"cells needs a unique column 'cell'; its columns are {list(self.cells)}")
        if len(self.curves):
            if missing := {"cell", "step"} - set(self.curves):
                raise ValueError(f"curves lacks {sorted(missing)}; its columns are {list(self.curves)}")
            if unknown := set(self.curves["cell"]) - set(self.cells["cell"]):
                raise ValueError(f"curves has cells that are not in cells: {sorted(unknown)}")
        for name, array in self.arrays.items():
            if array.dtype.hasobject:
                raise ValueError(f"arrays[{name!r}] holds Python objects; only plain numbers and strings can be stored")


@dataclass(frozen=True)
class Record:
    """A finished run on disk. Its files are read when first asked for."""

    path: Path

    @property
    def fingerprint(self) -> str:
        return self.path.name

    @property
    def experiment(self) -> str:
        return self.path.parent.name

    @property
    def figures(self) -> Path:
        """The folder of the figures that were drawn from this record; it need not exist."""
        return self.path / "figures"

    @cached_property
    def note(self) -> str:
        """What this code and these libraries would not do again as they did, such as `other code; torch 2.10.0, now
        2.11.0`; empty where nothing has changed."""
        notes = [] if self.summary["code"]["source"] == source_hash() else ["other code"]
        then, now = self.summary["environment"]["versions"], _versions()
        changed = [name for name in NUMERICAL if then.get(name) != now.get(name)]
        return "; ".join([*notes, *(f"{name} {then.get(name)}, now {now.get(name)}" for name in changed)])

    @cached_property
    def config(self) -> dict[str, Any]:
        return yaml.safe_load(self._file("config.yaml").read_text(encoding="utf-8"))

    @cached_property
    def summary(self) -> dict[str, Any]:
        return json.loads(self._file("summary.json").read_text(encoding="utf-8"))

    @cached_property
    def cells(self) -> pd.DataFrame:
        return pd.read_parquet(self._file("cells.parquet"))

    @cached_property
    def curves(self) -> pd.DataFrame:
        return pd.read_parquet(self._file("curves.parquet"))

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self._file("arrays.npz"), allow_pickle=False) as arrays:
            return dict(arrays)

    def table(self, name: str = "cells") -> pd.DataFrame:
        """A copy of one table, ready to be filtered and plotted.

        - `"cells"`: one row per grid cell.
        - `"curves"`: one row per step and cell, with every column of `cells` that `curves` does not have
            (its configuration and theory values; where both have a column, the step's own value stays).
        - `"runs"`: the one row of this run: the configuration's values under their dotted names, the headline
            under `headline.<name>`.

        Raises a ValueError for any other name.
        """
        if name == "cells":
            return self.cells.copy()
        if name == "curves":
            if self.curves.empty:
                return self.curves.copy()
            added = self.cells[["cell", *(c for c in self.cells if c not in self.curves)]]
            return self.curves.merge(added, on="cell", how="left", validate="many_to_one")
        if name == "runs":
            return pd.DataFrame([flat(self.config) | flat({"headline": self.summary["headline"]})])
        raise ValueError(f"table must be one of {', '.join(TABLES)}, got {name!r}")

    def _file(self, name: str) -> Path:
        if not self.path.exists():
            _settle(self.path)
        return self.path / name


# -------------------------------------------------------------------------------- fingerprint


def fingerprint(config: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of the SHA-256 of what determines a run's numbers.

    All of `config` except `NOT_IN_FINGERPRINT`, as canonical JSON: the order of keys does not matter, tuples
    are lists, and whole floats are integers (`p: 1` and `p: 1.0` are the same run), but True is not 1.

    Raises a ValueError while `device` is still "auto" (CPU and GPU runs would share a record) and for a
    number that is not finite; a TypeError for a value that JSON has no form for.
    """
    if config.get("device") == "auto":
        raise ValueError("device is 'auto': resolve it to 'cpu' or 'cuda' before the fingerprint is taken")
    relevant = {key: value for key, value in config.items() if key not in NOT_IN_FINGERPRINT}
    text = json.dumps(_canonical(_plain(relevant)), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    """`value` from dicts, lists, strings, numbers, booleans and None only."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a configuration cannot hold {value!r} of type {type(value).__name__}")


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"training": {"steps": 5}}` as `{"training.steps": 5}`."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


# -------------------------------------------------------------------------------- writing


@contextlib.contextmanager
def claim(results: str | Path, name: str, fingerprint: str, *, wait: bool = True) -> Iterator[None]:
    """Makes this process the only one that computes and writes a run, until the block or the process ends.

    What crashed owners left is cleared up, and a damaged record moves to `results/damaged/`, with a line that says
    so. A process may claim what it has claimed already.

    Raises:
        locks.Taken: another process has the claim, and `wait` is false.
        OSError: `results` cannot be written.
    """
    target = Path(results) / "runs" / name / fingerprint
    with locks.hold(target.with_name(f".lock-{fingerprint}"), wait=wait) as alone:
        if alone:
            _sweep(target)
            if target.exists() and (why := damage(target)):
                place = _set_aside(target)
                print(f"warning: damaged record {target}: {why}; moved to {place}", file=sys.stderr, flush=True)
        yield


def write(
    results: str | Path,
    config: Mapping[str, Any],
    result: Result,
    *,
    command: str,
    durations: Mapping[str, float],
    force: bool = False,
) -> Record:
    """Stores `result` under `results/runs/<config["name"]>/<fingerprint(config)>` and returns its record.

    The files are written and synced beside their place and then moved there in one rename: a crash at any
    moment leaves a whole record or none. Where an intact record exists already (two processes that could not lock
    ran the same configuration) it is kept and returned, unless `force`; then it is replaced, and comes back should
    the replacement crash.

    `command` is what a reader types to make the record again, `durations` are in seconds.
    """
    stored: dict[str, Any] = _plain(config)
    print_of_config = fingerprint(stored)
    target = Path(results) / "runs" / stored["name"] / print_of_config
    summary = {
        "experiment": stored["name"],
        "title": stored.get("title"),
        "fingerprint": print_of_config,
        "command": command,
        "headline": {key: _finite(value) for key, value in result.headline.items()},
        "seeds": stored.get("seed"),
        "durations": {key: round(float(value), 3) for key, value in durations.items()},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment(),
        "code": code_state(),
    }
    with claim(results, stored["name"], print_of_config):
        if target.exists() and not force:
            return Record(target)
        temporary = target.with_name(f".tmp-{target.name}")
        try:
            _write_files(temporary, stored, result, summary)
            _move_into_place(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return Record(target)


def _write_files(folder: Path, config: dict[str, Any], result: Result, summary: dict[str, Any]) -> None:
    folder.mkdir()
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    _storable(result.cells).to_parquet(folder / "cells.parquet", index=False)
    _storable(result.curves).to_parquet(folder / "curves.parquet", index=False)
    np.savez_compressed(folder / "arrays.npz", allow_pickle=False, **result.arrays)
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    seal(folder)
    for path in (*folder.iterdir(), folder):
        _sync(path)


def _move_into_place(temporary: Path, target: Path) -> None:
    """Renames `temporary` to `target`. POSIX cannot swap two folders, so what stands there steps aside for
    the moment between two renames; `_sweep` puts it back should that moment be the last."""
    aside = _aside(target)
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    try:
        temporary.rename(target)
    except OSError:
        if damage(target):  # else a writer that could not lock was faster: its record is as good
            raise
    for folder in list(target.parents)[:3]:  # runs/<experiment>, runs, results: any of them may be new
        _sync(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _storable(frame: pd.DataFrame) -> pd.DataFrame:
    """A column of nothing but None has no type; as float it can be joined with runs where it has one."""
    empty = [c for c in frame if frame[c].dtype == object and frame[c].isna().all()]
    return frame.astype(dict.fromkeys(empty, "float64"))


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aside(target: Path) -> Path:
    """Where the record at `target` waits while it is replaced."""
    return target.with_name(f".old-{target.name}")


def _sweep(target: Path) -> None:
    """Clears up after crashed writers; only for the holder of the claim, to whom every leftover is stale."""
    if _aside(target).exists() and not target.exists():
        _aside(target).rename(target)
    for leftover in (_aside(target), target.with_name(f".tmp-{target.name}")):
        shutil.rmtree(leftover, ignore_errors=True)


def _settle(target: Path) -> None:
    """Waits while `target` is being replaced, or undoes a replacement that crashed half-way."""
    until = time.monotonic() + SETTLE_S
    while _aside(target).exists() and not target.exists() and time.monotonic() < until:
        try:
            with claim(target.parents[2], target.parent.name, target.name, wait=False):
                pass
        except locks.Taken:
            time.sleep(0.01)  # the writer is between its two renames
        except OSError:
            return  # a folder that may only be read has no writer to wait for


def _set_aside(target: Path) -> Path:
    """Moves a damaged record to `results/damaged/<experiment>/` under a name that is free, and returns its place."""
    folder = target.parents[2] / "damaged" / target.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    place = next(p for n in count(1) if not (p := folder / f"{target.name}-{n}").exists())
    return target.rename(place)


def checkpoints(results: str | Path, fingerprint: str) -> Path:
    """Where the networks of a run under way leave their checkpoints; they belong to the run's claim."""
    return Path(results) / "checkpoints" / fingerprint


# -------------------------------------------------------------------------------- integrity


def seal(path: Path) -> None:
    """Writes the checksums of the record in the folder `path`."""
    (path / CHECKSUMS).write_text("".join(f"{_sum(path / name)}  {name}\n" for name in FILES), encoding="utf-8")


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(path: Path) -> str | None:
    """What is wrong with the record in the folder `path`: a file that is missing or is not what was written; None
    if nothing is."""
    while True:
        before = _identity(path)
        found = _damage(path)
        if found is None or _identity(path) == before:  # else it was replaced while we looked
            return found


def _damage(path: Path) -> str | None:
    try:
        text = (path / CHECKSUMS).read_text(encoding="utf-8", errors="replace")
        lines = [f"{_sum(path / name)}  {name}" for name in FILES]
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"{Path(error.filename or path).name} cannot be read ({error.strerror})"
    for name, line in zip(FILES, lines, strict=True):
        if line not in text.splitlines():
            return f"{name} differs from its checksum"
    return None if text == "\n".join([*lines, ""]) else f"{CHECKSUMS} has been changed"


def _identity(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.stat().st_ino
    return None


# -------------------------------------------------------------------------------- reading


# A record may be replaced several times while one looks for it, and each look fall between two renames.
LOOKS = 5


def find(results: str | Path, name: str, fingerprint: str) -> Record | None:
    """The record of experiment `name` with this fingerprint; None where there is none, or a damaged one."""
    path = Path(results) / "runs" / name / fingerprint
    for _ in range(LOOKS):
        if not path.exists():
            _settle(path)
        if path.exists() and damage(path) is None:
            return Record(path)
    return None


def records(experiment: str, results: str | Path = "results") -> list[Record]:
    """All records of an experiment, oldest first; an empty list where there is none. Damaged ones are left out,
    with a warning."""
    folder = Path(results) / "runs" / experiment
    whole = []
    for path in folders(folder):
        if why := damage(path):
            warnings.warn(f"damaged record {path} is left out: {why}", stacklevel=2)
        else:
            whole.append(Record(path))
    return sorted(whole, key=lambda record: (record.summary["finished"], record.fingerprint))


def folders(experiment: Path) -> list[Path]:
    """The folders of all records in `results/runs/<experiment>`, by fingerprint, damaged ones as well."""
    for aside in experiment.glob(".old-*"):
        _settle(aside.with_name(aside.name.removeprefix(".old-")))
    return sorted(path for path in experiment.glob("[!.]*") if path.is_dir())


def load(experiment: str, *, table: str = "cells", results: str | Path = "results", **filters: Any) -> pd.DataFrame:
    """One table over all cells of all runs of an experiment, the run's `fingerprint` in the first column.

    - `table`: `"cells"`, `"curves"` (the cell's configuration in every row) or `"runs"`; see `Record.table`.
    - `filters`: a column, or a key of the configuration by its dotted name (`**{"training.steps": 4000}`),
        with a value or a list of values to keep; None keeps what is missing.

    Runs whose columns differ are joined with missing values; whole numbers stay whole (`Int64`) even then. Runs of
    other code or libraries than these are in the table, with a warning that names them.
    Raises a ValueError that names what exists for an experiment without records and for an unknown column.
    """
    found = records(experiment, results)
    if not found:
        folder = Path(results) / "runs"
        exist = sorted(path.name for path in folder.glob("*") if records(path.name, results))
        raise ValueError(
            f"no records of {experiment!r} in {folder}; "
            + (f"{_nearest(experiment, exist)}there are: {', '.join(exist)}" if exist else "it has none at all")
        )
    if other := [f"{record.fingerprint} ({record.note})" for record in found if record.note]:
        warnings.warn(f"{len(other)} of {len(found)} records of {experiment}: {', '.join(other)}", stacklevel=2)
    settings = {record.fingerprint: flat(record.config) for record in found}
    frames = []
    for record in found:
        frame = record.table(table)
        frame.insert(0, "fingerprint", record.fingerprint)
        frames.append(frame)
    frame = _join(frames)
    names = [str(column) for column in frame]
    for name, wanted in filters.items():
        if name in frame:
            values = frame[name]
        elif any(name in keys for keys in settings.values()):
            by_run = {run: keys.get(name) for run, keys in settings.items()}
            values = pd.Series([by_run[run] for run in frame["fingerprint"]], index=frame.index, dtype=object)
        else:
            raise ValueError(
                f"unknown column {name!r} in {table} of {experiment!r}; {_nearest(name, names)}"
                f"there are: {', '.join(names)}, and the configuration's dotted keys"
            )
        frame = frame[_keep(values, wanted)]
    return frame.reset_index(drop=True)


def _keep(values: pd.Series, wanted: Any) -> pd.Series:
    wanted = list(wanted) if isinstance(wanted, list | tuple | set | range | np.ndarray) else [wanted]
    # a setting that is a list itself (a grid) is kept where it holds one of the wanted values
    grids = values.map(lambda value: isinstance(value, list) and any(item in wanted for item in value))
    single = values.map(lambda value: None if isinstance(value, list) else value)
    keep = single.isin([value for value in wanted if value is not None]) | grids.astype(bool)
    return keep | values.isna() if any(value is None for value in wanted) else keep


def _join(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Concatenates without changing what a column is: pandas alone makes whole numbers with gaps floats."""
    frames = [frame for frame in frames if len(frame)] or frames[:1]
    columns = set().union(*frames)
    gaps = {column for column in columns if any(column not in frame for frame in frames)}
    nullable = {"i": "Int64", "u": "UInt64", "b": "boolean"}
    kinds = [
        {c: nullable[frame[c].dtype.kind] for c in gaps & set(frame) if frame[c].dtype.kind in nullable}
        for frame in frames
    ]
    return pd.concat([frame.astype(k) for frame, k in zip(frames, kinds, strict=True)], ignore_index=True)


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


# -------------------------------------------------------------------------------- environment


def code_state() -> dict[str, Any]:
    """What the code was: `commit` and `dirty` (None outside a git checkout) and `source`, see `source_hash`."""
    commit = _git("rev-parse", "HEAD")
    # results, notes and pictures that changed do not make the code another
    changes = _git("status", "--porcelain", "--", "src", "scripts", "conf", "requirements.lock")
    dirty = None if commit is None or changes is None else bool(changes)
    return {"commit": commit, "dirty": dirty, "source": source_hash()}


def source_hash() -> str:
    """SHA-256 over the package's own modules, by which two states of the code compare wherever they come from."""
    source = hashlib.sha256()
    for path in sorted(PACKAGE_ROOT.rglob("*.py")):
        content = path.read_bytes()
        source.update(f"{path.relative_to(PACKAGE_ROOT).as_posix()} {len(content)}\n".encode() + content)
    return source.hexdigest()


def _git(*arguments: str) -> str | None:
    root = PACKAGE_ROOT.parents[1]
    if not (root / ".git").exists():  # installed into some other project's checkout
        return None
    try:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def environment() -> dict[str, Any]:
    """Python, packages, platform and hardware; GPU and threads are torch's, where a run has loaded it."""
    torch = sys.modules.get("torch")
    gpu = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "python": platform.python_version(),
        "versions": _versions(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch is not None and gpu else None,
        "threads": torch.get_num_threads() if torch is not None else None,
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
