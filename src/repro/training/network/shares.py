"""How networks share the cores of a machine."""

import os

from repro.pipeline.settings import Config
from repro.pipeline.system import threads
from repro.training.network import Settings


def shares(config: Config, training: Settings, networks: int) -> tuple[int, int]:
    """How many of the networks are trained at a time, and on how many threads each."""
    if config.device != "cpu" or training.world_size > 1 or threads.in_worker():
        return 1, config.threads or threads.DEFAULT
    cores = len(os.sched_getaffinity(0))
    processes = min(networks, training.processes or max(1, cores // (config.threads or 1)))
    return processes, config.threads or max(1, cores // processes)
