"""A record goes to disk: whole or not at all."""

import json
import math
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from repro.pipeline.store.code import computed_by
from repro.pipeline.store.environment import code_state, environment
from repro.pipeline.store.identity import plain
from repro.pipeline.store.integrity import damage, seal
from repro.pipeline.store.place import Place
from repro.pipeline.store.records import Record, Result


def write(
    place: Place,
    config: Mapping[str, object],
    result: Result,
    *,
    command: str,
    durations: Mapping[str, float],
    force: bool = False,
) -> Record:
    """Stores `result` of the run that `config` describes at its `place` and returns the record.

    The files are written and synced beside their place and then moved there in one rename: a crash at any
    moment leaves a whole record or none. Where an intact record exists already (two processes that could not lock
    ran the same configuration) it is kept and returned, unless `force`, or other code has made it; then it is replaced,
    and comes back should the replacement crash.

    `command` is what a reader types to make the record again, `durations` are in seconds.
    """
    stored = {key: plain(value) for key, value in config.items()}
    summary = {
        "experiment": place.name,
        "title": stored.get("title"),
        "fingerprint": place.fingerprint,
        "command": command,
        # JSON has no NaN and no infinity
        "headline": {key: float(value) if math.isfinite(value) else None for key, value in result.headline.items()},
        "seeds": stored.get("seed"),
        **({"data": result.data} if result.data else {}),
        "durations": {key: round(float(value), 3) for key, value in durations.items()},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment(),
        "code": code_state() | {"modules": computed_by(stored)},
    }
    with place.claim():
        if place.path.exists() and not force and not Record(place.path).other_code:
            return Record(place.path)
        temporary = place.beside("tmp")
        try:
            _write_files(temporary, stored, result, summary)
            _move_into_place(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return Record(place.path)


def _write_files(folder: Path, config: dict[str, object], result: Result, summary: dict[str, object]) -> None:
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


def _move_into_place(temporary: Path, place: Place) -> None:
    """Renames `temporary` to its place. POSIX cannot swap two folders, so what stands there steps aside for
    the moment between two renames; `Place.claim` puts it back should that moment be the last."""
    target, aside = place.path, place.beside("old")
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
