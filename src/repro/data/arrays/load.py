import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from repro.data.arrays import Settings
from repro.pipeline.system.errors import UserError


def load(settings: Settings) -> tuple[Float[Tensor, "b N"], Float[Tensor, "a N"]]:
    """X and Y as the files have them, a sample a column.

    Raises:
        UserError: files that cannot be read, or are others than when the command was started; values that are no finite
            numbers; X and Y of different numbers of samples.
    """
    for key, found in settings.hashes().items():
        if found != settings.content[key]:
            raise UserError(f"{settings.files[key][0]}: has changed since this command was started")
    X, Y = (numbers(typed, file, name or key) for key, (typed, file, name) in settings.files.items())
    # A file of one dimension is as long on either side.
    fitting = [side for side, axis in (("rows", 0), ("columns", -1)) if X.shape[axis] == Y.shape[axis]]
    side = settings.samples or (fitting[0] if len(fitting) == 1 or X.ndim == Y.ndim == 1 else None)
    if side not in fitting:
        sizes = " and ".join(f"{key} {' × '.join(map(str, found.shape))}" for key, found in (("X", X), ("Y", Y)))
        why = "do not have one number of samples" if len(fitting) < 2 else "fit on both sides: columns or rows?"
        hint = f"; data.samples={fitting[0]} would" if len(fitting) == 1 else ""
        raise UserError(f"data.samples={settings.samples or 'null'}: {sizes} {why}{hint}")
    X, Y = (found[None] if found.ndim == 1 else found.T if side == "rows" else found for found in (X, Y))
    return torch.from_numpy(X.copy()), torch.from_numpy(Y.copy())


def numbers(typed: str, file: Path, name: str) -> np.ndarray:
    """The finite numbers of a file as float64, of one or two dimensions; `name` is that of an array in an npz."""
    try:
        found = _table(typed, file) if file.suffix.lower() == ".csv" else _array(typed, file, name)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:  # as many ways as there are damages
        raise UserError(f"{typed}: cannot be read ({' '.join(str(error).split())[:120]})") from None
    if found.dtype.kind not in "fiub":
        raise UserError(f"{typed}: must hold real numbers; it is of type {found.dtype}")
    if found.ndim not in (1, 2) or not found.size:
        shape = " × ".join(map(str, found.shape)) or "one number"
        raise UserError(f"{typed}: must be a table of samples × features, or the other way round; it is {shape}")
    found = found.astype(np.float64)
    if len(bad := np.argwhere(~np.isfinite(found))):
        place = ", ".join(f"{word} {n}" for word, n in zip(("row", "column"), bad[0] + 1, strict=False))
        raise UserError(f"{typed}: {len(bad)} values are missing or not finite, the first in {place}")
    return found


def _array(typed: str, file: Path, name: str) -> np.ndarray:
    found = np.load(file)
    if isinstance(found, np.ndarray):
        return found
    with found:
        wanted = found.files[0] if len(found.files) == 1 and f":{name}" not in typed else name
        if wanted not in found.files:
            raise UserError(
                f"{typed}: has no array {name}, it has {', '.join(found.files)}; name one, as in {file}:name"
            )
        return found[wanted]


def _table(typed: str, file: Path) -> np.ndarray:
    """A csv, its columns named in the first row or not; what pandas writes beside values is not taken for some."""
    with file.open(encoding="utf-8-sig") as opened:
        first = opened.readline().strip("\r\n")
    separator = max(",;\t", key=first.count)
    cells = [cell.strip().strip('"') for cell in first.split(separator)]
    values = pd.to_numeric(pd.Series(cells), errors="coerce").notna()
    numbered = len(cells) > 1 and cells == [str(n) for n in range(len(cells))]
    if numbered or 0 < values.sum() < len(cells) or not cells[0]:
        what = "counts 0, 1, 2, …" if numbered else "has an empty cell" if "" in cells else "mixes names and numbers"
        raise UserError(f"{typed}: its first row {what}: give all columns names (pandas: index=False), or write a npy")
    header = None if values.all() else 0
    table = pd.read_csv(file, sep=separator, header=header, encoding="utf-8-sig", skipinitialspace=True)
    for position, column in enumerate(table, 1):
        if table[column].dtype.kind not in "fiub":
            row = int(pd.to_numeric(table[column], errors="coerce").isna().argmax())
            raise UserError(
                f"{typed}: must hold numbers; column {position} has {table[column][row]!r} in row {row + 1}"
            )
    return table.to_numpy()
