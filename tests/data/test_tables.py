"""Small tables: those that packages carry, and a file; what cannot be learned from is refused in one line."""

import numpy as np
import pytest

from repro.data.tables import Settings
from repro.data.tables.load import load
from repro.pipeline.settings import load as load_config
from repro.pipeline.store import Run
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
    named = "\n".join(["a;b;c;y", *(";".join(map(repr, map(float, row))) for row in rows)])  # with names, as most have
    (tmp_path / "named.csv").write_text(named)
    ((X, y),) = load(settings(str(tmp_path / "named.csv"))).values()
    np.testing.assert_array_equal(np.column_stack([X, y]), rows)


def test_a_file_is_known_by_its_content(tmp_path):
    def known(name):
        typed = ["experiment=variational_regression", "scale=smoke", "device=cpu", f"data.table=[diabetes,{name}]"]
        return Run(load_config(typed)).place.fingerprint

    for name in ("one.csv", "moved.csv"):
        np.savetxt(tmp_path / name, np.random.default_rng(0).normal(size=(30, 4)), delimiter=",")
    one = known(tmp_path / "one.csv")
    assert known(tmp_path / "moved.csv") == one
    np.savetxt(tmp_path / "one.csv", np.random.default_rng(1).normal(size=(30, 4)), delimiter=",")
    assert known(tmp_path / "one.csv") != one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows.__setitem__((3, 1), np.nan),
            "1 values are missing or not finite, the first in row 4",
        ),
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
    for name, says in (("nowhere", "must be one of autompg, boston, diabetes, or a file"), ("no.csv", "No such file")):
        with pytest.raises(ValueError, match=f"data.table={name}: {says}"):
            settings(name)
