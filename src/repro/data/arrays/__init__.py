"""The user's own X and Y, from two files."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from repro.data.settings import LinearSettings

SUFFIXES = (".npy", ".npz", ".csv")


class Settings(LinearSettings):
    """`X` and `Y` are files of `SUFFIXES`; `file.npz:name` is one of several arrays of a file.

    `samples` says whether a sample is a column or a row of both; null takes the side on which they are equally long. A
    file of one dimension has one number a sample. Values are taken as they are, not centred.
    """

    kind: Literal["arrays"]
    X: str | None
    Y: str | None
    samples: Literal["columns", "rows"] | None

    @property
    def files(self) -> dict[str, tuple[str, Path, str]]:
        """Of X and Y what was typed, the file, and the name of the array in it, if one is named."""
        found = {}
        for key, path in (("X", self.X or ""), ("Y", self.Y or "")):
            file, colon, name = path.rpartition(":")
            whole = not (colon and file.endswith(".npz"))
            found[key] = (f"data.{key}={path}", Path(path if whole else file), "" if whole else name)
        return found

    def hashes(self) -> dict[str, str]:
        """SHA-256 of both files as they are now, and the names of the arrays in them.

        Raises:
            ValueError: one is not there, or of another kind.
        """
        found = {}
        for key, (typed, file, name) in self.files.items():
            if not getattr(self, key):
                raise ValueError(f"data.{key}=null: data=arrays needs two files, as in data.X=X.npy data.Y=Y.npy")
            if file.suffix.lower() not in SUFFIXES:
                raise ValueError(f"{typed}: must be a file that ends in {', '.join(SUFFIXES)}")
            try:
                with file.open("rb") as opened:
                    found[key] = hashlib.file_digest(opened, "sha256").hexdigest() + (f":{name}" if name else "")
            except OSError as error:
                raise ValueError(f"{typed}: {error.strerror or error}") from None
        return found

    @cached_property
    def content(self) -> dict[str, str]:
        return self.hashes()

    @model_validator(mode="after")
    def _files_are_there(self) -> "Settings":
        _ = self.content  # now, and not when it is asked for
        return self
