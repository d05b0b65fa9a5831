"""Whether a record is what was written: its files against their checksums."""

import contextlib
import hashlib
from pathlib import Path

FILES = ("config.yaml", "cells.parquet", "curves.parquet", "arrays.npz", "summary.json")
CHECKSUMS = "SHA256SUMS"


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
