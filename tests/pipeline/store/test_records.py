"""Records: what is the same run, what is a whole record, and what a sweep looks like when it is read back."""

import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from repro import records
from repro.pipeline.store import Record, Result, environment
from repro.pipeline.store.identity import fingerprint
from repro.pipeline.store.integrity import FILES
from repro.pipeline.store.place import Place
from repro.pipeline.store.writing import write as write_record

CONFIG: dict[str, Any] = {
    "name": "rank_collapse",
    "title": "does the rank collapse?",
    "scale": "smoke",
    "seed": [0, 1],
    "device": "cpu",
    "force": False,
    "results": "results",
    "training": {"steps": 300, "learning_rate": 0.1},
    "dropout": {"block_size": [1, 4], "p": [0.5], "retain": None},
    "tracking": {"mode": "offline"},
}


def config(**changes: Any) -> dict[str, Any]:
    return CONFIG | changes


def result(value: float = 1.0, **columns: Any) -> Result:
    """Two cells (block sizes 1 and 4), three steps each; `value` marks whose result it is."""
    cells = pd.DataFrame({"cell": [0, 1], "block_size": [1, 4], "p": 0.5, "retain": None, "gap": value})
    steps = pd.DataFrame({"cell": np.repeat([0, 1], 3), "step": [0, 10, 20] * 2, "objective": np.arange(6.0)})
    arrays = {"singular_values": np.full((2, 3), value), "names": np.array(["a", "b"])}
    return Result(cells.assign(**columns), steps, arrays, {"worst_gap": value})


def write(root: Path, settings: dict[str, Any] = CONFIG, value: float = 1.0, **more: Any) -> Record:
    place = Place.of(root, settings)
    return write_record(place, settings, result(value), command="python x.py", durations={"run": 1.5}, **more)


def find(root: Path, settings: dict[str, Any] = CONFIG) -> Record | None:
    place = Place.of(root, settings)
    return Record(place.path) if place.intact() else None


# fingerprint


def test_fingerprint_is_the_hash_of_canonical_json() -> None:
    # any other form would orphan every record that anyone has
    text = '{"device":"cpu","name":"x","p":[0.5,1],"retain":null}'
    expected = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert fingerprint({"p": (0.5, 1.0), "retain": None, "name": "x", "device": "cpu"}) == expected


@pytest.mark.parametrize(
    "same",
    [
        dict(reversed(CONFIG.items())),
        config(seed=(0, 1)),
        config(training={"learning_rate": np.float64(0.1), "steps": 300.0}),
        config(tracking={"mode": "disabled"}, results=Path("elsewhere"), force=True, scale="cpu", title="?"),
    ],
)
def test_fingerprint_ignores_what_does_not_change_numbers(same: dict[str, Any]) -> None:
    assert fingerprint(same) == fingerprint(CONFIG)


@pytest.mark.parametrize(
    "other",
    [
        config(name="dropconnect"),
        config(seed=[1, 0]),
        config(seed=[0, True]),
        config(device="cuda"),
        config(training={"steps": 301, "learning_rate": 0.1}),
        config(training={"steps": 300, "learning_rate": 0.1 + 1e-16 * 2}),
        config(training={"steps": "300", "learning_rate": 0.1}),
        config(options={}),
    ],
)
def test_fingerprint_sees_what_changes_numbers(other: dict[str, Any]) -> None:
    assert fingerprint(other) != fingerprint(CONFIG)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (config(device="auto"), ValueError),
        (config(threads=float("nan")), ValueError),
        (config(options={"x": object()}), TypeError),
    ],
)
def test_fingerprint_refuses_what_it_cannot_tell_apart(bad: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        fingerprint(bad)


# writing and finding


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path, config(threads=None, seed=(0, 1)))
    found = find(tmp_path, config(threads=None, seed=(0, 1)))
    assert found is not None
    assert found.path == tmp_path / "runs" / "rank_collapse" / found.fingerprint
    assert sorted(path.name for path in found.path.iterdir()) == sorted([*FILES, "SHA256SUMS"])
    assert found.config == config(threads=None)
    assert fingerprint(found.config) == found.fingerprint
    expected = result()
    pd.testing.assert_frame_equal(found.cells, expected.cells.astype({"retain": "float64"}))
    pd.testing.assert_frame_equal(found.curves, expected.curves)
    assert found.arrays["singular_values"].dtype == np.float64
    np.testing.assert_array_equal(found.arrays["singular_values"], expected.arrays["singular_values"])
    np.testing.assert_array_equal(found.arrays["names"], expected.arrays["names"])
    assert found.summary["headline"] == {"worst_gap": 1.0}
    assert found.summary["seeds"] == [0, 1]
    assert found.summary["durations"] == {"run": 1.5}
    assert found.summary["command"] == "python x.py"
    assert found.summary["environment"]["versions"]["numpy"] == np.__version__
    assert set(found.summary["code"]) == {"commit", "dirty", "modules"}


def test_no_record_is_none(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    assert list(tmp_path.iterdir()) == []  # looking leaves no trace


def test_a_headline_that_is_not_finite_is_still_json(tmp_path: Path) -> None:
    record = write(tmp_path, value=float("nan"))
    text = (record.path / "summary.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["headline"] == {"worst_gap": None}


def test_curves_may_be_empty_and_arrays_absent(tmp_path: Path) -> None:
    bare = Result(pd.DataFrame({"cell": [0], "gap": [0.1]}))
    record = write_record(Place.of(tmp_path, CONFIG), CONFIG, bare, command="", durations={})
    assert record.arrays == {}
    assert len(record.table("curves")) == 0
    assert len(records.load("rank_collapse", results=tmp_path, table="curves")) == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Result(pd.DataFrame({"gap": [1.0]})),
        lambda: Result(pd.DataFrame({"cell": [0, 0]})),
        lambda: Result(pd.DataFrame({"cell": [0]}), pd.DataFrame({"cell": [0]})),
        lambda: Result(pd.DataFrame({"cell": [0]}), pd.DataFrame({"cell": [1], "step": [0]})),
        lambda: Result(pd.DataFrame({"cell": [0]}), arrays={"a": np.array([None])}),
    ],
)
def test_a_result_of_the_wrong_form_is_refused(make: Callable[[], Result]) -> None:
    with pytest.raises(ValueError, match=r"cell|arrays|curves"):
        make()


def test_the_first_record_stays_unless_forced(tmp_path: Path) -> None:
    write(tmp_path, value=1.0)
    assert write(tmp_path, value=2.0).summary["headline"] == {"worst_gap": 1.0}
    assert write(tmp_path, value=3.0, force=True).summary["headline"] == {"worst_gap": 3.0}
    assert [p.name for p in (tmp_path / "runs" / "rank_collapse").iterdir() if p.is_dir()] == [fingerprint(CONFIG)]


# crashes


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the writer may run after it."""


def crash_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Ends the writer at the `moment`-th system call that matters; its own cleaning up is disabled, too."""
    calls = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls >= moment:
                raise Killed
            return original(*arguments, **options)

        return call

    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(Path, "write_text", counted(Path.write_text))
    monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree))


WRITER_CALLS = 20  # those of a forced write that replaces a record


@pytest.mark.parametrize("moment", range(1, WRITER_CALLS + 1))
@pytest.mark.parametrize("force", [False, True])
def test_a_crash_at_any_moment_leaves_a_whole_record_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int, force: bool
) -> None:
    if force:
        write(tmp_path, value=1.0)
    with monkeypatch.context() as patch:
        crash_at(patch, moment)
        try:
            write(tmp_path, value=2.0, force=force)
        except Killed:
            crashed = True
        else:
            crashed = False
    found = find(tmp_path)
    if found is not None:
        assert len(found.cells) == 2
        assert len(found.arrays) == 2
        assert found.summary["headline"]["worst_gap"] in ({1.0, 2.0} if force else {2.0})
        assert len(records.load("rank_collapse", results=tmp_path)) == 2
    else:
        assert crashed
        assert not force, "the old record must not be lost"
        assert records.records("rank_collapse", tmp_path) == []
    # and the next writer leaves no rubbish behind
    assert write(tmp_path, value=3.0, force=True).summary["headline"] == {"worst_gap": 3.0}
    names = {path.name for path in (tmp_path / "runs" / "rank_collapse").iterdir()}
    assert names == {fingerprint(CONFIG)}


def test_the_crashes_above_cover_the_whole_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, value=1.0)
    with monkeypatch.context() as patch:
        crash_at(patch, WRITER_CALLS)
        with pytest.raises(Killed):
            write(tmp_path, value=2.0, force=True)
    with monkeypatch.context() as patch:
        crash_at(patch, WRITER_CALLS + 1)
        write(tmp_path, value=3.0, force=True)
    assert records.records("rank_collapse", tmp_path)[0].summary["headline"] == {"worst_gap": 3.0}


def test_a_damaged_record_is_none_and_is_written_anew(tmp_path: Path) -> None:
    record = write(tmp_path, value=1.0)
    (record.path / "arrays.npz").unlink()
    assert find(tmp_path) is None
    assert write(tmp_path, value=2.0).summary["headline"] == {"worst_gap": 2.0}


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def _write_often(root: Path, value: float, force: bool, gate: Any) -> None:
    gate.wait()
    for _ in range(8):
        assert Record(write(root, value=value, force=force).path).config["name"] == "rank_collapse"


@pytest.mark.parametrize("force", [False, True])
def test_writers_of_the_same_record_at_once_all_end_well(tmp_path: Path, force: bool) -> None:
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(3)
    if force:
        write(tmp_path)
    writers = [context.Process(target=_write_often, args=(tmp_path, float(i), force, gate)) for i in (1, 2)]
    for writer in writers:
        writer.start()
    gate.wait()
    looks = 0
    while any(writer.is_alive() for writer in writers):
        found = find(tmp_path)
        assert found is not None or not force, "a reader must always find the old record or the new one"
        looks += 1
    assert looks > 5
    assert [writer.exitcode for writer in writers] == [0, 0]
    [record] = records.records("rank_collapse", tmp_path)
    assert record.cells["gap"].iloc[0] == record.arrays["singular_values"][0, 0]
    assert {path.name for path in record.path.parent.iterdir()} == {record.fingerprint}


# loading


def test_curves_carry_the_cells_configuration(tmp_path: Path) -> None:
    table = write(tmp_path).table("curves")
    assert list(table["block_size"]) == [1, 1, 1, 4, 4, 4]
    assert list(table["objective"]) == [0, 1, 2, 3, 4, 5]
    assert table["block_size"].dtype == np.int64


def test_load_collects_all_runs_and_filters(tmp_path: Path) -> None:
    first = write(tmp_path)
    second = write(tmp_path, config(training={"steps": 900, "learning_rate": 0.1}), value=2.0)
    cells = records.load("rank_collapse", results=tmp_path)
    assert list(cells)[:3] == ["fingerprint", "training.steps", "cell"]
    assert len(cells) == 4
    assert set(cells["fingerprint"]) == {first.fingerprint, second.fingerprint}
    assert list(records.load("rank_collapse", results=tmp_path, block_size=4)["gap"]) == [1.0, 2.0]
    assert len(records.load("rank_collapse", results=tmp_path, block_size=[1, 4], gap=2.0)) == 2
    assert len(records.load("rank_collapse", results=tmp_path, retain=None)) == 4
    assert len(records.load("rank_collapse", results=tmp_path, retain=0.3)) == 0
    longer = records.load("rank_collapse", results=tmp_path, table="curves", **{"training.steps": 900})
    assert set(longer["fingerprint"]) == {second.fingerprint}
    assert len(longer) == 6
    runs = records.load("rank_collapse", results=tmp_path, table="runs")
    assert list(runs["training.steps"]) == [300, 900]
    assert list(runs["headline.worst_gap"]) == [1.0, 2.0]
    assert len(records.load("rank_collapse", results=tmp_path, table="runs", **{"dropout.block_size": 4})) == 2
    assert len(records.load("rank_collapse", results=tmp_path, table="runs", **{"dropout.block_size": 5})) == 0


def test_settings_in_which_runs_differ_are_columns(tmp_path: Path) -> None:
    for rate in (0.1, 0.01):
        for noise in ("dropblock", ["gaussian", "bernoulli"]):
            for seed in ([0], [1]):
                dropout = CONFIG["dropout"] | {"scheme": noise, "p": [0.5, 0.8][: len(seed)]}
                settings = config(training={"steps": 300, "learning_rate": rate}, dropout=dropout, seed=seed)
                scale = {"scale": "cpu" if rate == 0.1 else "smoke", "title": str(rate), "results": str(seed)}
                place = Place.of(tmp_path, settings | scale)
                value = result(rate, seed=seed[0])
                write_record(place, settings | scale, value, command="", durations={})
    told_apart = ["scale", "training.learning_rate", "dropout.scheme", "seed", "cell"]
    for table in ("cells", "curves"):
        frame = records.load("rank_collapse", results=tmp_path, table=table)
        assert list(frame)[:4] == ["fingerprint", "dropout.scheme", "scale", "training.learning_rate"]
        assert not frame.duplicated([*told_apart, *(["step"] if table == "curves" else [])]).any()
    cells = records.load("rank_collapse", results=tmp_path)
    assert (cells["gap"] == cells["training.learning_rate"]).all()
    assert set(cells["dropout.scheme"]) == {"dropblock", ("gaussian", "bernoulli")}
    assert len(cells.groupby(["dropout.scheme", "training.learning_rate"])) == 4
    one = records.load(
        "rank_collapse", results=tmp_path, **{"training.learning_rate": 0.1, "dropout.scheme": "dropblock"}
    )
    assert list(one)[:2] == ["fingerprint", "cell"]  # seeds alone differ, and the cells have them


def test_a_setting_is_not_taken_for_a_column_that_is_called_like_it(tmp_path: Path) -> None:
    for number in (5, 6):
        settings = config(data={"seed": number}, dropout=CONFIG["dropout"] | {"p": None, "retain": [number / 10]})
        write_record(
            Place.of(tmp_path, settings), settings, result(seed=0, retain=number / 10), command="", durations={}
        )
    cells = records.load("rank_collapse", results=tmp_path)
    assert list(cells)[:3] == ["fingerprint", "data.seed", "cell"]
    assert sorted(cells["data.seed"]) == [5, 5, 6, 6]


def test_load_keeps_types_when_runs_differ_in_their_columns(tmp_path: Path) -> None:
    write(tmp_path)
    other = Result(pd.DataFrame({"cell": [0], "retain": [0.25], "rank": [3], "done": [True], "scheme": ["x"]}))
    elsewhere = config(device="cuda")
    write_record(Place.of(tmp_path, elsewhere), elsewhere, other, command="", durations={})
    cells = records.load("rank_collapse", results=tmp_path)
    types = {name: str(cells[name].dtype) for name in ("cell", "block_size", "rank", "done", "retain", "gap")}
    assert types == {
        "cell": "int64",
        "block_size": "Int64",
        "rank": "Int64",
        "done": "boolean",
        "retain": "float64",
        "gap": "float64",
    }
    assert list(records.load("rank_collapse", results=tmp_path, rank=3)["scheme"]) == ["x"]
    assert len(records.load("rank_collapse", results=tmp_path, rank=None)) == 2


def test_load_names_what_exists(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none at all"):
        records.load("rank_collapse", results=tmp_path)
    write(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'rank_collapse'"):
        records.load("rank_colapse", results=tmp_path)
    with pytest.raises(ValueError, match=r"did you mean 'block_size'.*gap"):
        records.load("rank_collapse", results=tmp_path, blocksize=4)
    with pytest.raises(ValueError, match="cells, curves, runs"):
        records.load("rank_collapse", results=tmp_path, table="cell")


def test_reading_does_not_import_torch(tmp_path: Path) -> None:
    write(tmp_path)
    code = (
        "import sys; from repro import records; from repro.pipeline.store import environment; "
        f"records.load('rank_collapse', results={str(tmp_path)!r}, table='curves'); "
        "environment.environment(); environment.code_state(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_code_state_is_that_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "src" / "repro"
    package.mkdir(parents=True)
    (package / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(environment, "PACKAGE_ROOT", package)
    assert environment.code_state() == {"commit": None, "dirty": None}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *arguments], check=True)
    assert len(environment.code_state()["commit"]) == 40
    assert environment.code_state()["dirty"] is False
    (package / "a.py").write_text("x = 3\n")
    assert environment.code_state()["dirty"] is True
