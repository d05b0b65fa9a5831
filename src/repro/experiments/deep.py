"""What the deep experiments share: networks trained side by side, each measured along its training."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from repro import distributed, parts, records
from repro.config import DeepConfig
from repro.config import processes as processes_of
from repro.errors import UserError
from repro.progress import Progress
from repro.signals import children_ignore_ctrl_c

if TYPE_CHECKING:
    import numpy as np
    from lightning_fabric import Fabric

    from repro.models.resnet import ResNet
    from repro.training.network import Row, Task

Advance = Callable[[int], Any]
POLL = 0.2  # seconds between two looks at what the processes have done


@dataclass(frozen=True)
class Job:
    """One network: what to train, and how it is measured.

    Attributes:
        task: what to train.
        device: `cpu` or `cuda`.
        block_size: of the blocks whose balance is measured.
        monte_carlo_masks: that each measurement of the stochastic objective averages over.
    """

    task: "Task"
    device: str
    block_size: int
    monte_carlo_masks: int


class Trained(NamedTuple):
    """What became of a job: its rows, one an epoch; the final spectrum and block norms ‖U_i g_i(X)‖_F."""

    rows: "list[Row]"
    singular_values: "np.ndarray"
    block_norms: "np.ndarray"


def train_all(jobs: Sequence[Job], cfg: DeepConfig, progress: Progress) -> list[Trained]:
    """Train all networks, on a CPU several at a time in processes of their own; in `parts` where a launcher cuts them.

    Every epoch leaves a checkpoint under `results/checkpoints/`; the same command goes on from there, with the same
    numbers. Whoever records the run removes them.

    Raises:
        UserError: batches larger than the training set.
    """
    count, batch = len(jobs[0].task.images.train), cfg.training.batch_size
    if batch > count:
        raise UserError(f"training.batch_size={batch}: must be at most {count}, the training images")
    folder = records.checkpoints(cfg.results, records.fingerprint(cfg.plain()))
    code = records.code_state()["source"]
    jobs = [
        replace(job, task=replace(job.task, checkpoint=folder / f"{number}.pt", code=code))
        for number, job in enumerate(jobs)
    ]
    trained = parts.each(lambda start, stop: _train_some(jobs[start:stop], folder, cfg, progress), len(jobs), cfg)
    return [network for part in trained for network in part]


def _train_some(jobs: Sequence[Job], folder: Path, cfg: DeepConfig, progress: Progress) -> list[Trained]:
    """`train_all` on some of the networks, whose checkpoints are in `folder`."""
    started = time.monotonic()
    resumed = len(list(folder.glob("*.pt"))) if folder.is_dir() else 0
    if resumed:
        progress.say(f"going on from the checkpoints of {resumed} networks in {folder}")
    processes, threads = _shares(cfg, len(jobs))
    count, batch = len(jobs[0].task.images.train), cfg.training.batch_size
    total = len(jobs) * (count // batch * batch) * cfg.training.epochs
    with progress.phase(f"{len(jobs)} networks, images", total=total) as bar:
        done = 0

        def advance(images: int) -> None:
            nonlocal done
            done += images
            bar.advance(images)

        if processes == 1:
            trained = [_train(job, threads, advance) for job in jobs]
        else:
            trained = _side_by_side(jobs, processes, threads, advance)
    seconds = time.monotonic() - started
    progress.say(f"{done / seconds:,.0f} images/s on {processes} × {threads} threads, {cfg.device}")
    for number, network in enumerate(trained):
        if network.rows and not isfinite(network.rows[-1]["deterministic"]):  # other processes than the first have none
            progress.say(f"network {number} diverged, and was stopped after epoch {network.rows[-1]['epoch']:.0f}")
    return trained


def _shares(cfg: DeepConfig, jobs: int) -> tuple[int, int]:
    """How many networks are trained at a time, and on how many threads each."""
    import torch

    if cfg.device != "cpu" or processes_of(cfg) > 1 or parts.in_worker():
        return 1, cfg.threads or torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))
    processes = min(jobs, cfg.training.processes or max(1, cores // (cfg.threads or 1)))
    return processes, cfg.threads or max(1, cores // processes)


def _train(job: Job, threads: int, advance: Advance) -> Trained:
    from repro.training.network import fabric_of
    from repro.training.threads import torch_threads

    fabric = fabric_of(job.task.training, job.device)
    with torch_threads(threads):
        # A progress bar cannot cross into spawned processes; a partial because `launch` walks through arguments
        # and rebuilds the dataclasses among them.
        here = fabric.world_size == 1 or distributed.started() is not None
        advance = advance if here else _nowhere
        return fabric.launch(partial(_train_here, job=job, advance=advance))


def _nowhere(images: int) -> None:
    pass


def _train_here(fabric: "Fabric", job: Job, advance: Advance) -> Trained:
    from repro.training.network import fit

    measurement = Measurement(job, str(fabric.device))
    rows = fit(fabric, job.task, measurement, advance)
    return Trained(rows, measurement.singular_values, measurement.block_norms)


class Measurement:
    """Measures a network and remembers the arrays of the last time.

    A row has, all objectives in units of ‖Y‖²: `data_fit`; `deterministic` and `monte_carlo` ± `standard_error`, the
    objective's expectation and sample mean on the same features; `remeasured`, see `linear.monte_carlo`;
    `penalty`; the numbers of `repro.training.measurement.balance`; `train_accuracy` and `test_accuracy`.
    """

    def __init__(self, job: Job, device: str) -> None:
        import numpy as np

        self.job = job
        self.images = job.task.images.to(device)
        self.singular_values = self.block_norms = np.empty(0)

    def __call__(self, epoch: int, network: "ResNet") -> "Row":
        from repro.experiments import linear
        from repro.training import measurement
        from repro.training.noise import Cell, noise_of

        task = self.job.task
        seen = measurement.look(network, self.images, self.images.train)
        energy, fit = seen.problem.energy, measurement.data_fit(seen)
        row = {"data_fit": fit / energy, "deterministic": fit / energy, "penalty": 0.0}
        if not isfinite(energy + fit):
            return self._diverged(len(seen.head))
        if task.masks is not None:
            cell = Cell(task.masks, task.seed)
            noise = noise_of(seen.problem, [cell])
            U = seen.head[None]
            V = U.new_zeros(U.shape[-1], U.shape[-1]).fill_diagonal_(1)[None]  # a deep network is U I g(X)
            expected = noise.objective(U, V)
            generator = cell.generator(f"measurement {epoch}", seen.head.device)
            losses = partial(noise.sampled_objective, U, V, [generator])
            mean, error, again = linear.monte_carlo(losses, expected, self.job.monte_carlo_masks)
            row |= {
                "deterministic": float(expected) / energy,
                "penalty": (float(expected) - fit) / energy,
                "monte_carlo": float(mean) / energy,
                "standard_error": float(error) / energy,
                "remeasured": float(again),
            }
        self.singular_values = measurement.singular_values(seen).cpu().numpy()
        self.block_norms = measurement.block_norms(seen, self.job.block_size).cpu().numpy()
        test = measurement.look(network, self.images, self.images.test)
        return (
            row
            | measurement.balance(seen, self.job.block_size)
            | {"train_accuracy": seen.accuracy, "test_accuracy": test.accuracy}
        )

    def _diverged(self, classes: int) -> "Row":
        """The row of a network that is no longer finite: the grid's other networks go on."""
        import numpy as np

        self.singular_values, self.block_norms = np.full(classes, np.nan), np.full(1, np.nan)
        names = ("data_fit", "deterministic", "penalty", "imbalance", "tightness", "effective_rank")
        return dict.fromkeys((*names, "train_accuracy", "test_accuracy"), nan)


# ---------------------------------------------------------------------- processes


def _side_by_side(jobs: Sequence[Job], processes: int, threads: int, advance: Advance) -> list[Trained]:
    """The jobs in `processes` spawned processes, the longest first come, in the order of `jobs`."""
    import multiprocessing
    from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait

    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    shown = 0
    with ProcessPoolExecutor(processes, context, _begin, (counter,)) as pool:
        with children_ignore_ctrl_c():
            futures = [pool.submit(_train_in_process, job, threads) for job in jobs]
        waiting = set(futures)
        try:
            while waiting:
                finished, waiting = wait(waiting, timeout=POLL, return_when=FIRST_EXCEPTION)
                advance(counter.value - shown)
                shown = counter.value
                for future in finished:
                    future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
    return [future.result() for future in futures]


_counter: Any = None


def _begin(counter: Any) -> None:
    """A process of the pool: count into `counter`, and do not outlive a killed parent."""
    global _counter
    import multiprocessing
    from multiprocessing.connection import wait

    _counter = counter
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _train_in_process(job: Job, threads: int) -> Trained:
    def advance(images: int) -> None:
        with _counter.get_lock():
            _counter.value += images

    return _train(job, threads, advance)


def final(curves: pd.DataFrame) -> pd.DataFrame:
    """The last row of each cell, and whether the cell `diverged`: its loss or its objective is not finite."""
    last = curves.drop_duplicates("cell", keep="last").drop(columns=["cell", "step"]).reset_index(drop=True)
    numbers = last[["train_loss", "deterministic"]]
    return last.assign(diverged=(numbers.isna() | numbers.isin([inf, -inf])).any(axis=1))


def curves(trained: Sequence[Trained]) -> pd.DataFrame:
    """All rows, `cell` the position in `trained` and `step` the epoch."""
    rows = [{"cell": cell, "step": int(row["epoch"])} | row for cell, t in enumerate(trained) for row in t.rows]
    return pd.DataFrame(rows).drop(columns="epoch")
