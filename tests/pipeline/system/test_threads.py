"""How many threads torch computes on, and how many a run may use."""

import contextlib

import torch

from repro.pipeline.system import threads
from repro.pipeline.system.distributed import in_worker, worker
from repro.pipeline.system.threads import available, torch_threads


def test_threads_are_given_back_whatever_happens():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        with contextlib.suppress(ZeroDivisionError), torch_threads(1):
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_what_is_asked_for_is_available_else_torchs_own_choice(monkeypatch):
    monkeypatch.setattr(threads, "DEFAULT", 6)
    assert (available(None), available(1), available(3)) == (6, 1, 3)
    with torch_threads(1):  # as a run is executed: what it may use does not change
        assert available(None) == 6


def test_a_worker_has_one_thread_unless_it_is_told(monkeypatch):
    monkeypatch.setattr(threads, "DEFAULT", 6)
    with contextlib.suppress(ZeroDivisionError), worker():
        assert in_worker()
        assert (available(None), available(3)) == (1, 3)
        with worker():
            assert in_worker()
        assert in_worker()
        raise ZeroDivisionError
    assert not in_worker()
    assert available(None) == 6
