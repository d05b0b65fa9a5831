"""Whether a record's figures are there, and whose code has drawn them. Light: drawing itself needs Matplotlib."""

from pathlib import Path

from repro.pipeline.store import Record
from repro.pipeline.store.code import drawn_by

STAMP = ".code"  # beside a record's figures: what code has drawn them


def temporary(folder: Path) -> Path:
    """Where figures are drawn before they move into `folder`."""
    return folder.with_name(f".tmp-{folder.name}")


def half_drawn(record: Record) -> bool:
    """Whether the figures are missing, or their drawing has not ended."""
    return not (record.figures / STAMP).exists() or temporary(record.figures).exists()


def drawn_by_this_code(record: Record) -> bool:
    return not half_drawn(record) and _stamped(record)[0] == stamp(record)


def failed(record: Record) -> list[str]:
    """Names of the figures that could not be drawn when they were last."""
    return [] if half_drawn(record) else _stamped(record)[1:]


def _stamped(record: Record) -> list[str]:
    return (record.figures / STAMP).read_text().split("\n")


def stamp(record: Record) -> str:
    return drawn_by(record.config)
