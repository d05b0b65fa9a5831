"""How many threads torch computes on, for a while, and how many a run may use."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from repro.pipeline.system.distributed import in_worker

DEFAULT = torch.get_num_threads()
"""Torch's own choice, before anything here changes it."""


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run what is inside on `count` CPU threads of torch, and restore the number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def available(asked: int | None) -> int:
    """The threads that a run may use: as many as it asks for, else one in a worker, else torch's own choice."""
    return asked or (1 if in_worker() else DEFAULT)
