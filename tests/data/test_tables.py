"""Small tables: those that packages carry, and a file; what cannot be learned from is refused in one line."""

import numpy as np
import pytest

from repro.data.tables import Settings
from repro.data.tables.load import load
from repro.pipeline.system.errors import UserError


def settings(*tables):
    return Settings.model_validate({"kind": "tables", "table": list(tables), "held_out": 0.1})


def test_the_tables_that_packages_carry():
    found = load(settings("autompg", "boston", "diabetes"))
    assert {name: X.shape for name, (X, _) in found.items()} == {
        "autompg": (392, 7),
        "boston": (506, 13),
        "diabetes": (442, 10),
    }
    assert all(len(X) == len(y) for X, y in found.values())


def test_a_file_of_one_s_own(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 4))
    np.savetxt(tmp_path / "own.csv", rows, delimiter=",")
    ((X, y),) = load(settings(str(tmp_path / "own.csv"))).values()
    np.testing.assert_allclose(np.column_stack([X, y]), rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.__setitem__((3, 1), np.nan), "has 1 values that are missing or no finite numbers"),
        (lambda rows: rows.__setitem__((slice(None), 2), 5.0), "column 3 is constant"),
        (lambda rows: rows.__setitem__((slice(None), 3), 5.0), "the target is constant"),
        (lambda rows: rows.resize((5, 4), refcheck=False), "has 5 rows"),
    ],
)
def test_a_table_that_cannot_be_learned_from(tmp_path, change, message):
    rows = np.random.default_rng(0).normal(size=(30, 4))
    change(rows)
    np.savetxt(tmp_path / "bad.csv", rows, delimiter=",")
    with pytest.raises(UserError, match=rf"^data.table=\S*bad.csv: {message}"):
        load(settings(str(tmp_path / "bad.csv")))


def test_no_such_table():
    with pytest.raises(UserError, match=r"^data.table=nowhere: must be one of autompg, boston, diabetes, or the path"):
        load(settings("nowhere"))
