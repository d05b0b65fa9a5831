"""Tables for papers and spreadsheets: the ledger, or the cells, curves and runs of an experiment's records."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

from repro.pipeline.store import records
from repro.pipeline.system.errors import UserError

FORMATS = ("csv", "md", "tex")
TABLES = ("ledger", *records.TABLES)
DIGITS = 4
"""Of numbers in Markdown and LaTeX; CSV has all of them."""


def load(experiment: str, table: str, results: Path, filters: Sequence[str]) -> pd.DataFrame:
    """`table` over all records of an experiment, those rows that `filters`, `key=value` or `key=[a,b]`, keep.

    Raises:
        UserError: no such record or column, a filter that cannot be read, or nothing left.
    """
    wanted: dict[str, object] = {}
    for text in filters:
        key, _, value = text.partition("=")
        try:
            wanted[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"{text}: the value cannot be read; a list is [a,b]") from None
        if isinstance(wanted[key], dict):
            raise UserError(f"{text}: must be one value, or a list as [a,b]")
    try:
        frame = records.load(experiment, table=table, results=results, **wanted)
    except ValueError as error:
        raise UserError(str(error)) from None
    if frame.empty:
        raise UserError(" ".join([f"no {table} of {experiment} in {results} with", *filters]).removesuffix(" with"))
    return frame


def select(frame: pd.DataFrame, columns: str | None) -> pd.DataFrame:
    """The named columns, `a,b` or `[a,b]`, in that order; all without a name.

    Raises:
        UserError: for a column that is not there.
    """
    if columns is None:
        return frame
    names = [name.strip() for name in columns.strip("[]").split(",")]
    if missing := [name for name in names if name not in frame]:
        raise UserError(f"columns={columns}: there is no {', '.join(missing)}; there are: {', '.join(map(str, frame))}")
    return frame[names]


def write(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Writes `frame` in the format of `out`'s suffix, or in all of `FORMATS` where it has none; returns the files.

    Raises:
        UserError: for any other suffix, or a file that cannot be written.
    """
    if out.suffix and out.suffix[1:] not in FORMATS:
        raise UserError(f"out={out}: must end in {', '.join(f'.{name}' for name in FORMATS)}, or in none for all three")
    paths = [out] if out.suffix else [out.with_suffix(f".{name}") for name in FORMATS]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for path in paths:
            path.write_text(render(frame, path.suffix[1:]), encoding="utf-8")
    except OSError as error:
        raise UserError(f"out={out}: cannot be written: {error.strerror}") from None
    return paths


def render(frame: pd.DataFrame, format: str) -> str:
    """`frame` as text in one of `FORMATS`; LaTeX is a `tabular` with booktabs' rules (for XeLaTeX or LuaLaTeX, where it
    holds the ledger's Greek letters)."""
    if format == "csv":
        return frame.to_csv(index=False)
    if format == "md":
        known = frame.astype(object).where(frame.notna(), None)  # a missing number would be shown as nan
        return known.to_markdown(index=False, floatfmt=f".{DIGITS}g", missingval="–") + "\n"
    return frame.to_latex(index=False, escape=True, float_format=f"%.{DIGITS}g", na_rep="–")
