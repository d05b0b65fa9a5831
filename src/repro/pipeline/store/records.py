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

import difflib
import json
import warnings
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from repro.pipeline.store.code import computed_by
from repro.pipeline.store.environment import NUMERICAL, versions
from repro.pipeline.store.identity import NOT_IN_FINGERPRINT, flat
from repro.pipeline.store.integrity import damage
from repro.pipeline.store.place import Place, places

TABLES = ("cells", "curves", "runs")


@dataclass(frozen=True)
class Result:
    """What an experiment's `run` returns.

    - `cells`: one row per grid cell; a unique integer column `cell`, the cell's configuration, final
        measurements and theory values.
    - `curves`: one row per logged step and cell, with the columns `cell` and `step`; may be empty.
    - `arrays`: named arrays (no object arrays).
    - `headline`: the few numbers that are printed at the end.
    - `data`: what was read of the user's files, for `summary.json`.

    Raises a ValueError where tables and arrays do not have that form.
    """

    cells: pd.DataFrame
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    headline: dict[str, float] = field(default_factory=dict)
    data: Mapping[str, object] = field(default_factory=dict)

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
    def compared(self) -> bool:
        """Whether the code that made it can be told from this one: not of a record older than that is recorded, nor
        where a module of the user's is not here."""
        return bool(self.summary["code"].get("modules")) and computed_by(self.config) is not None

    @cached_property
    def other_code(self) -> tuple[str, ...]:
        """The modules by which the code that made it differs from this one, where that matters to its numbers."""
        then, now = self.summary["code"].get("modules") or {}, computed_by(self.config) or {}
        different = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
        return tuple(different) if self.compared else ()

    @cached_property
    def note(self) -> str:
        """What this code and these libraries would not do again as they did, such as `other code (my.noise); torch
        2.10.0, now 2.11.0`; empty where nothing has changed."""
        few, more = self.other_code[:3], len(self.other_code) - 3
        notes = [f"other code ({', '.join(few)}{f' and {more} more' if more > 0 else ''})"] if few else []
        then, now = self.summary["environment"]["versions"], versions()
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
        Place.at(self.path).settle()
        return self.path / name


def records(experiment: str, results: str | Path = "results") -> list[Record]:
    """All records of an experiment, oldest first; an empty list where there is none. Damaged ones are left out,
    with a warning."""
    whole = []
    for place in places(Path(results) / "runs" / experiment):
        if why := damage(place.path):
            warnings.warn(f"damaged record {place.path} is left out: {why}", stacklevel=2)
        else:
            whole.append(Record(place.path))
    return sorted(whole, key=lambda record: (record.summary["finished"], record.fingerprint))


def load(experiment: str, *, table: str = "cells", results: str | Path = "results", **filters: object) -> pd.DataFrame:
    """One table over all cells of all runs of an experiment, the run's `fingerprint` in the first column.

    Every setting in which the runs differ is a column: one that the cells themselves have, as `p` of `dropout.p`, or
    one more under its dotted name, as `training.learning_rate`, a list as a tuple.

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
    if table != "runs":
        left = set(frame["fingerprint"])
        for name, values in _differing([record for record in found if record.fingerprint in left]):
            frame.insert(1, name, frame["fingerprint"].map(values))
    return frame.reset_index(drop=True)


def _differing(found: list[Record]) -> Iterator[tuple[str, dict[str, object]]]:
    """The settings in which runs differ and that no column of their cells has, each with its value by fingerprint."""
    settings = [(record, flat(record.config)) for record in found]
    for key in sorted({key for _, keys in settings for key in keys}, reverse=True):
        if key.split(".")[0] in {*NOT_IN_FINGERPRINT} - {"scale"}:
            continue
        values = {record.fingerprint: _fixed(keys.get(key)) for record, keys in settings}
        if len(set(values.values())) > 1 and not all(_in_cells(record.cells, key, keys) for record, keys in settings):
            yield key, values


def _in_cells(cells: pd.DataFrame, key: str, settings: Mapping[str, object]) -> bool:
    """Whether a column says which value of a setting each cell has; one that was not set is worked out there."""
    name, value = key.rpartition(".")[2], _fixed(settings.get(key))
    wanted = value if isinstance(value, tuple) else (value,)
    return name in cells and (value is None or set(cells[name].dropna().map(_fixed)) <= set(wanted))


def _fixed(value: object) -> Hashable:
    return tuple(map(_fixed, value)) if isinstance(value, list) else value


def _keep(values: pd.Series, wanted: object) -> pd.Series:
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
