"""The lock: one holder at a time, freed by any death of the holder, and no file left behind."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from repro.pipeline.system import locks

fork = multiprocessing.get_context("fork")


def _hold(path: Path, held, ending) -> None:
    with locks.hold(path):
        held.set()
        ending.wait()


@pytest.fixture
def other(tmp_path):
    """Another process that holds `tmp_path`/a/lock, and the event that ends it."""
    held, ending = fork.Event(), fork.Event()
    process = fork.Process(target=_hold, args=(tmp_path / "a" / "lock", held, ending))
    process.start()
    assert held.wait(10)
    yield process, ending
    process.kill()
    process.join()


def test_one_holder_at_a_time_and_nothing_left(tmp_path, other):
    process, ending = other
    with pytest.raises(locks.Taken), locks.hold(tmp_path / "a" / "lock", wait=False):
        pass
    ending.set()
    with locks.hold(tmp_path / "a" / "lock") as locked:  # waits for it
        assert locked
        assert (tmp_path / "a" / "lock").exists()
    process.join(10)
    assert list(tmp_path.rglob("*lock")) == []


def test_it_dies_with_its_holder(tmp_path, other):
    process, _ = other
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    assert (tmp_path / "a" / "lock").exists()  # the file is left, the lock is not
    with locks.hold(tmp_path / "a" / "lock", wait=False):
        pass
    assert not (tmp_path / "a" / "lock").exists()


def test_the_holder_may_take_it_again(tmp_path):
    with locks.hold(tmp_path / "lock"), locks.hold(tmp_path / "lock", wait=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_folders_made_for_it_go_with_it_unless_they_are_used(tmp_path):
    with locks.hold(tmp_path / "a" / "b" / "lock"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locks.hold(tmp_path / "a" / "b" / "lock"):
        (tmp_path / "a" / "kept").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with locks.hold(tmp_path / "lock") as locked:
        assert not locked


def _count(path: Path, total: Path, rounds: int) -> None:
    for _ in range(rounds):
        with locks.hold(path):
            seen = int(total.read_text() or 0)
            time.sleep(0)  # a chance for others to do harm
            total.write_text(str(seen + 1))


def test_no_two_are_in_it_though_its_file_comes_and_goes(tmp_path):
    total = tmp_path / "total"
    total.write_text("0")
    counters = [fork.Process(target=_count, args=(tmp_path / "a" / "lock", total, 150)) for _ in range(4)]
    for process in counters:
        process.start()
    for process in counters:
        process.join(60)
    assert [process.exitcode for process in counters] == [0] * 4
    assert total.read_text() == "600"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["total"]


def test_the_count_needs_the_lock(tmp_path, monkeypatch):
    """The control: without locks, counts are lost."""
    monkeypatch.setattr(locks.fcntl, "flock", lambda descriptor, operation: None)
    monkeypatch.setattr(locks.os.path, "samestat", lambda one, other: True)
    with pytest.raises((AssertionError, ValueError)):
        test_no_two_are_in_it_though_its_file_comes_and_goes(tmp_path)
