from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import mlxtend.data
import numpy as np

from repro.data.arrays.load import numbers
from repro.data.tables import Settings
from repro.pipeline.system.errors import UserError

Table = tuple[np.ndarray, np.ndarray]


def _autompg() -> Table:
    X, y = mlxtend.data.autompg_data()
    return X[:, :7], y  # the last column is the car's name


READ: dict[str, Callable[[], Table]] = {
    "autompg": _autompg,
    "boston": mlxtend.data.boston_housing_data,
    "diabetes": lambda: import_module("sklearn.datasets").load_diabetes(
        return_X_y=True, scaled=False
    ),  # takes a second
}


def load(settings: Settings) -> dict[str, Table]:
    """Inputs (N, features) and target (N,) of each table, float64.

    Raises:
        UserError: a file that cannot be read, values missing or not finite, a constant column, too few rows.
    """
    return {name: checked(name, *(READ[name]() if name in READ else _file(name))) for name in settings.table}


def _file(name: str) -> Table:
    rows = numbers(f"data.table={name}", Path(name), "")
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise UserError(f"data.table={name}: needs two columns or more, the target last")
    return rows[:, :-1], rows[:, -1]


def checked(name: str, X: np.ndarray, y: np.ndarray) -> Table:
    """The table, if it is one that can be learned from."""
    rows = np.column_stack([X, y]).astype(np.float64)
    if (constant := np.flatnonzero(np.ptp(rows, axis=0) == 0)).size:
        what = "the target" if constant[0] == rows.shape[1] - 1 else f"column {constant[0] + 1}"
        raise UserError(f"data.table={name}: {what} is constant")
    if len(rows) < 20:
        raise UserError(f"data.table={name}: has {len(rows)} rows; 20 are the fewest")
    return rows[:, :-1], rows[:, -1]
