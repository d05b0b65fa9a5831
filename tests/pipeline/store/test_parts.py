"""Parts of a grid: what is stored and put together is what one call over all cells gives, without pickle."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from repro.pipeline.store import parts
from repro.pipeline.store.parts import Done, Parts, Piece

CELLS = 5


def work(start, stop):
    """Every kind of column and array; the width of `ragged`, and of its texts, grows with the cells."""
    cells = np.arange(start, stop)
    table = pd.DataFrame(
        {
            "cell": np.repeat(cells, 2),
            "scheme": [f"scheme {cell}" for cell in np.repeat(cells, 2)],
            "loss": np.repeat(cells, 2) / 3,
            "diverged": np.repeat(cells, 2) % 2 == 0,
        },
        index=np.arange(2 * len(cells)) + 7,
    )
    ragged = np.full((len(cells), stop), np.nan)
    for row, cell in enumerate(cells):
        ragged[row, : cell + 1] = cell + 0.1
    arrays = {
        "ragged": ragged,
        "ranks": cells**2,
        "names": np.array([f"{'x' * cell}" for cell in cells]),
        "factors": np.stack([np.full((2, 3), cell, np.float32) for cell in cells]),
    }
    return Piece(table, arrays)


@pytest.fixture
def there(tmp_path):
    return Parts(tmp_path / "parts")


def store(there, *given):
    for part in given:
        with pytest.raises(Done), parts.only(part):
            there.each(work, CELLS)


@pytest.mark.parametrize("stored", [[], [(0, 2)], [(1, 2), (3, 5)], [(0, 1), (1, 5)], [(0, 5)]])
def test_parts_put_together_are_the_whole(there, stored):
    store(there, *stored)
    assert there.stored() == stored
    expected, calls = work(0, CELLS), []
    found = there.each(lambda *part: calls.append(part) or work(*part), CELLS)
    assert calls == [part for part in parts._with_gaps(stored, CELLS) if part not in stored]
    pd.testing.assert_frame_equal(found.table, expected.table.reset_index(drop=True), check_exact=True)
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=name != "names", err_msg=name)
    assert found.arrays["ragged"].shape == (CELLS, CELLS)


def test_a_part_without_arrays_and_one_that_is_not_kept(there):
    with pytest.raises(Done), parts.only((0, 3)):
        there.each(lambda start, stop: Piece(pd.DataFrame({"cell": range(start, stop)})), CELLS)
    with pytest.raises(Done), parts.only((3, 5), keep=False):
        there.each(work, CELLS)
    assert there.stored() == [(0, 3)]
    found = there.each(lambda start, stop: Piece(pd.DataFrame({"cell": range(start, stop)})), CELLS)
    assert list(found.table.cell) == [0, 1, 2, 3, 4]
    assert dict(found.arrays) == {}


def test_the_seconds_of_all_parts_are_added_up(there, monkeypatch):
    now = iter([10.0, 12.5, 20.0, 20.25])
    monkeypatch.setattr(parts.time, "monotonic", lambda: next(now))
    assert there.spent() == 0
    store(there, (0, 2), (2, 5))
    assert there.spent() == 2.75


def test_gaps_between_stored_parts():
    assert parts._with_gaps([], 30) == [(0, 30)]
    assert parts._with_gaps([(8, 16), (24, 30)], 30) == [(0, 8), (8, 16), (16, 24), (24, 30)]
    assert parts._with_gaps([(0, 8), (0, 16), (8, 16)], 16) == [(0, 8), (8, 16)]


# no pickle


class Mine:
    """Unpickling it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_python_objects_are_not_stored_and_leave_nothing(there):
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"), parts.only((0, 1)):
        there.each(lambda start, stop: Piece(pd.DataFrame({"cell": [0]}), {"objects": objects}), CELLS)
    assert list(there.folder.iterdir()) == []


@pytest.mark.parametrize("inside", [False, True], ids=["a pickle", "an array of pickles"])
def test_a_pickle_in_a_parts_place_is_refused(there, tmp_path, inside):
    there.folder.mkdir(parents=True)
    file, sprung = there.folder / "0-5.npz", tmp_path / "sprung"
    if inside:
        trap = np.array([Mine(sprung)], dtype=object)
        np.savez(file, seconds=np.float64(1), table=trap, **{"array trap": trap})
    else:
        file.write_bytes(pickle.dumps(Mine(sprung)))
    with pytest.raises(ValueError, match="allow_pickle"):
        there.each(work, CELLS)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Mine(sprung)))  # the control: the trap works
    assert sprung.exists()
