"""Parquet files as dataset hubs serve them: encoded pictures in one column, the numbers of their classes in another."""

import json
import os
import re
from collections import defaultdict
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from repro.data.image_files.pictures import is_pointer
from repro.data.image_files.source import Picture, Source
from repro.data.image_files.splits import below, by_suffix, listed, said, uses
from repro.data.report import Split
from repro.pipeline.system.errors import UserError

SUFFIXES = {".parquet", ".parq", ".pq"}
IMAGE, LABEL = ("img", "image"), ("label", "fine_label")
BYTES, TEXT = (pa.binary(), pa.large_binary(), pa.binary_view()), (pa.string(), pa.large_string(), pa.string_view())


def find(root: Path) -> Source:
    """The pictures of all Parquet files below `root`, by the split that a file's name says, or its folder's.

    Raises:
        UserError: where names leave open which split a file is of, a shard is missing, or a file lacks what is needed.
    """
    # What begins with _ Spark and others have not finished, or keep for themselves.
    found = [path for path in below(root)[1] if not any(part.startswith("_") for part in path.parts)]
    files = [path for path in found if path.suffix.lower() in SUFFIXES]
    if not files:
        raise UserError(f"data.root={root}: holds no Parquet files (train*.parquet, train/*.parquet)")
    shards = _splits(root, files)
    test, of = uses(root, shards)
    sets = {split: shards[split] for split in ("train", test) if split}
    for paths in sets.values():
        _whole(root, paths)
    tables = {path: _Table(root, path) for paths in sets.values() for path in paths}
    first, *others = tables.values()
    for table in others:
        if table.names != first.names:
            names = f"{table.names or 'not at all'}, {first.file} {first.names or 'not at all'}"
            raise UserError(f"{table.file}: names its classes {names}")
    return Source(
        files=[file for table in tables.values() for file in (table.file, *table.pictures_beside())],
        train=partial(_all, [tables[path] for path in sets["train"]]),
        test=partial(_all, [tables[path] for path in sets[test]]) if test else None,
        names=first.names,
        splits={
            split: Split(use, {str(path): tables[path].rows if path in tables else None for path in shards[split]})
            for split, use in of.items()
        },
        not_read=by_suffix(path for path in found if path.suffix.lower() not in SUFFIXES),
    )


def _all(tables: list["_Table"]) -> list[Picture]:
    return [picture for table in tables for picture in table.pictures()]


def _splits(root: Path, files: list[Path]) -> dict[str, list[Path]]:
    """The files of each split; all are of the training set where none says anything."""
    words = {path: frozenset().union(*map(said, path.with_suffix("").parts)) for path in files}
    if not any(words.values()):
        return {"train": files}
    splits: dict[str, list[Path]] = defaultdict(list)
    sets: dict[tuple[str, ...], Path] = {}  # the folders above what says the split: one, or they are several data sets
    for path, spoken in words.items():
        if len(spoken) > 1:
            raise UserError(f"{root / path}: says {' and '.join(sorted(spoken))}; which of them is it?")
        if not spoken:
            others = listed((other for other in files if words[other]), 2)
            what = f"does not say of which split it is, as {others} do"
            raise UserError(f"{root / path}: {what}; name it so, or move it away")
        (split,) = spoken
        splits[split].append(path)
        speaks = next(n for n, part in enumerate(path.with_suffix("").parts) if said(part))
        sets.setdefault(path.parts[:speaks], path)
    if len(sets) > 1:
        where = " and ".join(str(root.joinpath(*above)) for above in [*sets][:2])
        raise UserError(f"data.root={root}: holds data sets side by side, in {where}; say which")
    return dict(splits)


def _whole(root: Path, paths: list[Path]) -> None:
    """Refuses shards of which one is missing, or there twice."""
    sets: dict[tuple[Path, str], list[tuple[int | None, int, Path]]] = defaultdict(list)
    for path in paths:
        if parts := re.match(r"(.*?)(\d+)-of-(\d+)", path.stem):
            sets[path.parent, parts[1]].append((int(parts[3]), int(parts[2]), path))
        elif re.fullmatch(r"0\d{3,4}", path.stem):  # the hub's own: 0000.parquet, 0001.parquet, …
            sets[path.parent, ""].append((None, int(path.stem), path))
    for shards in sets.values():
        total, _, one = shards[0]
        if other := next((path for count, _, path in shards if count != total), None):
            raise UserError(f"{root / one} and {other.name}: shards of two exports; leave those of one")
        numbers = [number for _, number, _ in shards]
        if double := [path for _, number, path in shards if numbers.count(number) > 1]:
            raise UserError(f"{root / double[0]} and {double[1].name}: the same shard twice; leave one")
        count = max(numbers) + 1 if total is None else total
        first = int(count in numbers)  # some count from 1
        if missing := sorted({*range(first, first + count)} - {*numbers}):
            what = f"{len(missing)} of {count} shards not there: number {listed(missing)}, counted from {first}"
            raise UserError(f"{root / one}: {what}")


class _Table:
    """A Parquet file: its columns, rows and names of classes, known from the start, and its pictures.

    Raises:
        UserError: no Parquet file, or one without the columns.
    """

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.file = root, root / path
        try:
            if is_pointer(self.file):
                raise UserError(f"{self.file}: a Git LFS pointer in place of the shard; `git lfs pull` fetches it")
            with pq.ParquetFile(self.file) as opened:
                self.schema, self.metadata = opened.schema_arrow, opened.metadata
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error
        self.rows = self.metadata.num_rows
        features = _features(self.schema)
        self.image = self._named(IMAGE, [name for name, kind in features.items() if kind.get("_type") == "Image"])
        self.label = self._named(LABEL, [name for name, kind in features.items() if kind.get("_type") == "ClassLabel"])
        names = features.get(self.label, {}).get("names")
        self.names = tuple(map(str, names)) if isinstance(names, list) else None

    def _named(self, usual: tuple[str, str], declared: list[str]) -> str:
        """The column of a usual name, else the one that the file itself declares to be of the kind."""
        has = self.schema.names
        there = [name for name in usual if name in has] or [name for name in declared if name in has]
        if len(there) != 1:
            needs = f"needs columns {' or '.join(IMAGE)}, and {' or '.join(LABEL)}; it has {', '.join(has)}"
            which = f"holds columns {' and '.join(there)}; which of them is it? Leave one"
            raise UserError(f"{self.file}: {which if there else needs}")
        return there[0]

    def pictures(self) -> list[Picture]:
        form = self.schema.field(self.image).type
        if self.rows and form not in (*BYTES, *TEXT) and not _fields(form) & {"bytes", "path"}:
            what = f"column {self.image} must hold {{bytes, path}}, bytes or paths"
            raise UserError(f"{self.file}: {what}; it is {form}")
        rows = enumerate(zip(self._column(self.image), self._labels(), strict=True))
        return [Picture(self._content(cell, row), self._at(row), label) for row, (cell, label) in rows]

    def pictures_beside(self) -> list[Path]:
        """The files that are named in place of bytes."""
        form = self.schema.field(self.image).type
        if form not in TEXT and "path" not in _fields(form):
            return []
        groups = [self.metadata.row_group(n) for n in range(self.metadata.num_row_groups)]
        columns = [group.column(n) for group in groups for n in range(group.num_columns)]
        of_bytes = [column for column in columns if column.path_in_schema == f"{self.image}.bytes"]
        if of_bytes and all(column.statistics and column.statistics.null_count == 0 for column in of_bytes):
            return []
        return [picture.source for picture in self.pictures() if isinstance(picture.source, Path)]

    def _labels(self) -> list[int]:
        form, labels = self.schema.field(self.label).type, self._column(self.label)
        if (labels and not pa.types.is_integer(form)) or None in labels:
            where = f" (row {labels.index(None)})" if None in labels else ""
            what = f"column {self.label} must hold whole numbers, none missing{where}"
            raise UserError(f"{self.file}: {what}; it is {form}")
        numbers = [label for label in labels if isinstance(label, int)]
        for row, number in enumerate(numbers):
            if self.names and not 0 <= number < len(self.names):
                raise UserError(f"{self._at(row)}: label {number}; the file names {len(self.names)} classes")
        return numbers

    def _content(self, cell: object, row: int) -> Path | bytes:
        """A cell's bytes, or the file that its path leads to from beside the table or from the data's folder."""
        content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, cell)
        if isinstance(content, bytes):
            return content
        if not isinstance(path, str):
            raise UserError(f"{self._at(row)}: holds no image, neither bytes nor a path")
        for base in (self.file.parent, self.root):
            inside = os.path.relpath(base / path, self.root)
            if not inside.startswith("..") and (self.root / inside).is_file():
                return self.root / inside
        raise UserError(f"{self._at(row)}: holds no image's bytes, and {path} is not beside the file")

    def _column(self, name: str) -> list[object]:
        try:
            with pq.ParquetFile(self.file) as opened:
                batches = opened.iter_batches(columns=[name])
                return [cell for batch in batches for cell in batch.column(0).to_pylist()]
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def _at(self, row: int) -> str:
        return f"{self.file}, row {row}"

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(f"{self.file}: cannot be read as parquet ({' '.join(str(error).split())[:200]})")


def _fields(form: pa.DataType) -> set[str]:
    return {form.field(n).name for n in range(form.num_fields)} if pa.types.is_struct(form) else set()


def _features(schema: pa.Schema) -> dict[str, dict[str, object]]:
    """What `datasets` notes of the columns of a file that it writes."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: kind for name, kind in noted.items() if isinstance(kind, dict)} if isinstance(noted, dict) else {}
