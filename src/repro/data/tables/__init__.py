"""Small tables of numbers with one target: those that installed packages carry, or a CSV file."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from repro.pipeline.settings import Data, OneOrMany, Probability

OURS = ("autompg", "boston", "diabetes")
SUFFIXES = (".csv", ".npy")


class Settings(Data):
    """`table`: `autompg`, `boston` (mlxtend), `diabetes` (scikit-learn), or the path of a csv or npy file: a row a
    sample, the target in the last column. `held_out`: the part of the rows to test on."""

    kind: Literal["tables"]
    table: OneOrMany[str]
    held_out: Probability

    @cached_property
    def content(self) -> dict[str, str]:
        """SHA-256 of the files of the user's own, in the order of `table`."""
        if not set(self.table) - set(OURS):
            return {}
        return {"table": ",".join(name if name in OURS else _hash(name) for name in self.table)}

    @model_validator(mode="after")
    def _files_are_there(self) -> "Settings":
        _ = self.content  # now, and not when it is asked for
        return self


def _hash(name: str) -> str:
    if Path(name).suffix.lower() not in SUFFIXES:
        raise ValueError(f"data.table={name}: must be one of {', '.join(OURS)}, or a file that ends in .csv or .npy")
    try:
        with Path(name).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"data.table={name}: {error.strerror or error}") from None
