"""Which process this is, of a data-parallel run that torchrun or SLURM has started, or of a launcher's workers."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from repro.pipeline.system.errors import UserError


def started(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """(rank, processes) of the processes that torchrun or SLURM's srun started; None where nobody did."""
    if "TORCHELASTIC_RUN_ID" in environment:
        return int(environment["RANK"]), int(environment["WORLD_SIZE"])
    if "SLURM_STEP_ID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1:
        return int(environment["SLURM_PROCID"]), int(environment["SLURM_NTASKS"])
    return None


def rank() -> int:
    """0 for the process that writes the record, which is the only one unless torchrun or SLURM started more."""
    return (started() or (0, 1))[0]


def check(devices: int, nodes: int) -> None:
    """A `UserError` unless as many processes run as `training.devices` and `training.nodes` ask for."""
    found = started()
    if found is None and nodes > 1:
        raise UserError(f"training.nodes={nodes}: several nodes need torchrun or SLURM to start a process a device")
    if found is not None and found[1] != devices * nodes:
        raise UserError(
            f"training.devices={devices}: times training.nodes={nodes} must be {found[1]}, the processes that run"
        )


_worker: ContextVar[bool] = ContextVar("worker", default=False)


@contextmanager
def worker() -> Iterator[None]:
    """Inside, this process is one of several on its machine: it starts no further ones."""
    token = _worker.set(True)
    try:
        yield
    finally:
        _worker.reset(token)


def in_worker() -> bool:
    return _worker.get()
