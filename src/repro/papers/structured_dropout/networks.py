"""What the deep experiments share: networks trained side by side, each measured along its training."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
from lightning_fabric import Fabric
from torch.distributed import DistNetworkError

from repro.data.images import Images
from repro.dropout.distribution import MaskDistribution
from repro.dropout.layers import FeatureDropout
from repro.models.resnet.build import MapDropout
from repro.papers.structured_dropout.settings import DeepConfig
from repro.pipeline.composition.wording import first_line
from repro.pipeline.settings import bound, implementation
from repro.pipeline.store import Piece, Run
from repro.pipeline.system import distributed, threads
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.training.monte_carlo import monte_carlo
from repro.training.network import measurement
from repro.training.network.loop import Row, Task, check, fabric_of, fit
from repro.training.network.measurement import Network
from repro.training.network.shares import shares
from repro.training.network.side_by_side import crossing, side_by_side
from repro.training.sweep.noise import Cell, noise_of

Advance = Callable[[int], object]
Told = tuple[int, Row]
Tell = Callable[[Told], object]
"""Takes a network's number and one of its rows, as soon as it is there."""


def _nowhere(what: object) -> None:
    pass


ARRAYS = ("singular_values", "block_norms")


@dataclass(frozen=True)
class Job:
    """One network: what to train, and how it is measured.

    Attributes:
        task: what to train.
        device: `cpu` or `cuda`.
        block_size: of the blocks whose balance is measured.
        monte_carlo_masks: that each measurement of the stochastic objective averages over.
        forward_masks: draws of dropout in the forward pass once training is over.
        measurements: along training; None for one after every epoch.
        number: its cell.
    """

    task: Task
    device: str
    block_size: int
    monte_carlo_masks: int
    forward_masks: int = 0
    measurements: int | None = None
    number: int = 0


class Trained(NamedTuple):
    """What became of a job: its rows, one an epoch; the final spectrum and block norms ‖U_i g_i(X)‖_F."""

    rows: list[Row]
    singular_values: np.ndarray
    block_norms: np.ndarray


def task(
    config: DeepConfig, images: Images, seed: int, masks: MaskDistribution | None, map_dropout: MapDropout | None = None
) -> Task:
    """What a cell trains: the configuration's network from the cell's seed."""
    arguments = (config.model, images.train.images.shape[1], images.classes, seed, *filter(None, [map_dropout]))
    return Task(
        build=cast(Callable[[], Network], bound(implementation(config.model, "build"), *arguments)),
        images=images,
        training=config.training,
        seed=seed,
        masks=masks,
        crop_padding=config.data.crop_padding,
        flip=config.data.flip,
    )


def train_all(jobs: Sequence[Job], config: DeepConfig, progress: Progress) -> Piece:
    """Train all networks, on a CPU several at a time in processes of their own; in parts where a launcher cuts them.

    Every epoch leaves a checkpoint under `results/checkpoints/`; the same command goes on from there, with the same
    numbers. Whoever records the run removes them.

    Returns:
        The curves, `cell` the position in `jobs` and `step` the epoch; of each network the final `singular_values` and
        the `block_norms` ‖U_i g_i(X)‖_F, filled up with NaN.

    Raises:
        UserError: batches that do not do, see `check`; a user's network without the parts that are trained.
    """
    measurement.check(jobs[0].task.build, config.model, jobs[0].task.images)
    check(jobs[0].task)
    run = Run(config)
    jobs = [
        replace(job, task=replace(job.task, checkpoint=run.checkpoints / f"{number}.pt", code=run.code), number=number)
        for number, job in enumerate(jobs)
    ]

    def work(start: int, stop: int) -> Piece:
        return _train_some(jobs[start:stop], start, run.checkpoints, config, progress)

    return run.parts.each(work, len(jobs))


def _train_some(jobs: Sequence[Job], first: int, folder: Path, config: DeepConfig, progress: Progress) -> Piece:
    """`train_all` on the networks number `first` and following, whose checkpoints are in `folder`."""
    started = time.monotonic()
    if resumed := len([*folder.glob("*.pt")]):
        progress.say(f"going on from the checkpoints of {resumed} networks in {folder}")
    processes, cores = shares(config, config.training, len(jobs))
    count, batch = len(jobs[0].task.images.train), config.training.batch_size
    total = sum(job.task.training.epochs for job in jobs) * (count // batch * batch)
    with progress.phase(f"{len(jobs)} networks, images", total=total) as bar:
        done = 0

        def advance(images: int) -> None:
            nonlocal done
            done += images
            bar.advance(images)

        def tell(told: Told) -> None:
            progress.log([_numbered(*told)])

        if processes == 1:
            trained = [_train(job, cores, advance, tell) for job in jobs]
        else:
            trained = _side_by_side(jobs, processes, cores, advance, tell)
    rate = done / (time.monotonic() - started)
    progress.say(f"{rate:,.0f} images/s on {processes} × {cores} threads, {config.device}")
    rows: list[dict[str, object]] = []
    for number, network in enumerate(trained, first):
        rows += [_numbered(number, row) for row in network.rows]
        if network.rows and not isfinite(network.rows[-1]["deterministic"]):  # other processes than the first have none
            progress.say(f"network {number} diverged, and was stopped after epoch {network.rows[-1]['epoch']:.0f}")
    return Piece(
        pd.DataFrame(rows), {name: _padded([getattr(network, name) for network in trained]) for name in ARRAYS}
    )


def _numbered(number: int, row: Row) -> dict[str, object]:
    return {"cell": number, "step": int(row["epoch"])} | {key: row[key] for key in row if key != "epoch"}


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([np.pad(row, (0, max(map(len, rows)) - len(row)), constant_values=nan) for row in rows])


def _train(job: Job, cores: int, advance: Advance, tell: Tell = _nowhere) -> Trained:
    fabric = fabric_of(job.task.training, job.device)
    with threads.torch_threads(cores), ExitStack() as stack:
        if fabric.world_size > 1 and distributed.started() is None:  # a progress bar cannot cross into its processes
            advance, tell = _nowhere, stack.enter_context(crossing(tell))
        # a partial because `launch` walks through arguments and rebuilds the dataclasses among them
        try:
            return fabric.launch(partial(_train_here, job=job, advance=advance, tell=tell))
        except DistNetworkError as error:  # of processes that others have started
            port = f"MASTER_PORT={os.environ.get('MASTER_PORT')} on {os.environ.get('MASTER_ADDR')}"
            raise UserError(f"{port}: the processes do not find each other there ({first_line(error)})") from None


def _train_here(fabric: Fabric, job: Job, advance: Advance, tell: Tell) -> Trained:
    measure = Measurement(job, str(fabric.device))
    rows = fit(fabric, job.task, measure, advance, lambda row: tell((job.number, row)))
    if rows and "deterministic" not in rows[-1]:  # it diverged between two measurements
        rows[-1] |= measure.diverged(len(measure.singular_values))
    return Trained(rows, measure.singular_values, measure.block_norms)


class Measurement:
    """Measures a network and remembers the arrays of the last time.

    A row has, all objectives in units of ‖Y‖²: `data_fit`; `deterministic` and `monte_carlo` ± `standard_error`, the
    objective's expectation and sample mean on the same features; `remeasured`, see `monte_carlo`;
    `penalty`; the numbers of `repro.training.network.measurement.balance`; `train_accuracy` and `test_accuracy`;
    `test_error`, the data fit on the held-out images in units of their own ‖Y‖²; in the last row, where asked for,
    `forward` ± `forward_error`, the stochastic objective with masks multiplied into each image's features.
    """

    def __init__(self, job: Job, device: str) -> None:
        self.job = job
        self.images = job.task.images.to(device)
        self.singular_values = self.block_norms = np.empty(0)

    def __call__(self, epoch: int, network: Network) -> Row:
        training = self.job.task.training
        if (training.epochs - epoch) % -(-training.epochs // (self.job.measurements or training.epochs)):
            return {}
        exact = measurement.exact_statistics(network, self.images, self.images.train)
        with exact if training.batch_norm == "recomputed" else nullcontext():
            return self._measured(epoch, network)

    def _measured(self, epoch: int, network: Network) -> Row:
        task = self.job.task
        seen = measurement.look(network, self.images, self.images.train)
        energy, misfit = seen.problem.energy, measurement.data_fit(seen)
        row = {"data_fit": misfit / energy, "deterministic": misfit / energy, "penalty": 0.0}
        if not isfinite(energy + misfit):
            return self.diverged(len(seen.head))
        if task.masks is not None:
            cell = Cell(task.masks, task.seed)
            noise = noise_of(seen.problem, [cell])
            U = seen.head[None]
            V = U.new_zeros(U.shape[-1], U.shape[-1]).fill_diagonal_(1)[None]  # a deep network is U I g(X)
            expected = noise.objective(U, V)
            generator = cell.generator(f"measurement {epoch}", seen.head.device)
            losses = partial(noise.sampled_objective, U, V, [generator])
            mean, error, again = monte_carlo(losses, expected, self.job.monte_carlo_masks)
            row |= {
                "deterministic": float(expected) / energy,
                "penalty": (float(expected) - misfit) / energy,
                "monte_carlo": float(mean) / energy,
                "standard_error": float(error) / energy,
                "remeasured": float(again),
            }
            if self.job.forward_masks and epoch == task.training.epochs:
                dropout = FeatureDropout(task.masks)  # one mask a sample
                dropout.generator = cell.generator("forward", seen.head.device)
                losses = partial(measurement.losses_through_masks, network, self.images, self.images.train, dropout)
                mean, error, _ = monte_carlo(losses, expected, self.job.forward_masks)
                row |= {"forward": float(mean) / energy, "forward_error": float(error) / energy}
        self.singular_values = measurement.singular_values(seen).cpu().numpy()
        self.block_norms = measurement.block_norms(seen, self.job.block_size).cpu().numpy()
        test = measurement.look(network, self.images, self.images.test)
        row |= {"train_accuracy": seen.accuracy, "test_accuracy": test.accuracy}
        row |= {"test_error": measurement.data_fit(test) / test.problem.energy}
        return row | measurement.balance(seen, self.job.block_size)

    def diverged(self, classes: int) -> Row:
        """The row of a network that is no longer finite: the grid's other networks go on."""
        self.singular_values, self.block_norms = np.full(classes, nan), np.full(1, nan)
        names = ("data_fit", "deterministic", "penalty", "imbalance", "tightness", "effective_rank")
        return dict.fromkeys((*names, "train_accuracy", "test_accuracy", "test_error"), nan)


def _side_by_side(
    jobs: Sequence[Job], processes: int, cores: int, advance: Advance, tell: Tell = _nowhere
) -> list[Trained]:
    """The jobs in `processes` spawned processes, the longest first come, in the order of `jobs`."""
    return side_by_side(partial(_train, cores=cores), jobs, processes, advance, tell)


def final(curves: pd.DataFrame) -> pd.DataFrame:
    """The last row of each cell, and whether the cell `diverged`: its loss or its objective is not finite."""
    last = curves.drop_duplicates("cell", keep="last").drop(columns=["cell", "step"]).reset_index(drop=True)
    return last.assign(diverged=~np.isfinite(last[["train_loss", "deterministic"]]).all(axis=1))
