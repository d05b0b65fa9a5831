"""Which process this is, of a data-parallel run that torchrun or SLURM has started, or of a launcher's workers."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from repro.pipeline.system.errors import UserError


def started(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """(rank, processes) of the processes that torchrun or SLURM's srun started; None where nobody did."""
    if "TORCHELASTIC_RUN_ID" in environment:
        return int(environment["RANK"]), int(environment["WORLD_SIZE"])
    tasks, rank = environment.get("SLURM_NTASKS", ""), environment.get("SLURM_PROCID", "")
    if "SLURM_STEP_ID" in environment and tasks.isdigit() and int(tasks) > 1 and rank.isdigit():
        return int(rank), int(tasks)
    return None


def by_slurm(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether it was srun that started the processes."""
    return "TORCHELASTIC_RUN_ID" not in environment and started(environment) is not None


def rank() -> int:
    """0 for the process that writes the record, which is the only one unless torchrun or SLURM started more."""
    return (started() or (0, 1))[0]


def check(devices: int, nodes: int) -> None:
    """A `UserError` unless as many processes run as `training.devices` and `training.nodes` ask for."""
    found = started()
    if found is None and nodes > 1:
        raise UserError(f"training.nodes={nodes}: several nodes need torchrun or SLURM to start a process a device")
    if found is None:
        return
    who = f"srun (SLURM_NTASKS={found[1]})" if by_slurm() else "torchrun"
    if found[1] != devices * nodes:
        asked = f"training.devices={devices} on {nodes} machine{'s' * (nodes > 1)} takes {devices * nodes}"
        instead = f"training.devices=DEVICES training.nodes=MACHINES takes one network to all {found[1]}"
        raise UserError(f"{who} has started {found[1]} processes, and {asked}: start as many; {instead}")
    for name, count in (("SLURM_NTASKS_PER_NODE", devices), ("SLURM_NNODES", nodes)) if by_slurm() else ():
        if os.environ.setdefault(name, str(count)) != str(count):
            key = "training.nodes" if name == "SLURM_NNODES" else "training.devices"
            raise UserError(f"{key}={count}: must be {os.environ[name]}, as {name} says")


def on_this_machine() -> None:
    """Before processes are spawned here: what the environment says of others' ranks and machine is not theirs, and of a
    port only where it is free; else they take one that is."""
    for name in ("MASTER_ADDR", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
    port = os.environ.get("MASTER_PORT", "")
    if not (port.isdigit() and _is_free(int(port))):
        os.environ.pop("MASTER_PORT", None)


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("", port))
        except (OSError, OverflowError):
            return False
    return True


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
