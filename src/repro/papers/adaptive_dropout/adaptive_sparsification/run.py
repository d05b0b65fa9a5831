"""Trains the networks of every method as one batch, and prunes the one without a penalty as controls."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from math import log

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.data.images import load
from repro.papers.adaptive_dropout.adaptive_sparsification import Config
from repro.pipeline.store import Result
from repro.pipeline.system import threads
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.pipeline.system.threads import torch_threads
from repro.training.adaptive.kinds import METHODS
from repro.training.adaptive.loop import Digits, Row, train
from repro.training.adaptive.methods import Masked, Plain
from repro.training.adaptive.network import Stack, initial
from repro.training.sweep.noise import seeded_generator


@dataclass(frozen=True)
class _Job:
    """The networks of one method, and what training them comes to."""

    method: str
    factors: tuple[float, ...]
    seeds: tuple[int, ...]


def run(config: Config, progress: Progress) -> Result:
    training, options = config.training, config.options
    data = Digits.of(load(config.data), config.device)
    sizes = (data.train.shape[1], *config.model.hidden, int(data.train_labels.max()) + 1)
    steps = len(data.train) // training.batch_size
    if steps == 0:
        raise UserError(f"training.batch_size={training.batch_size}: must be at most {len(data.train)}, the images")
    jobs = [_Job(name, (1.0,) * len(config.seed), config.seed) for name in options.methods]
    grid = options.factors
    jobs += [_Job(name, grid, (config.seed[0],) * len(grid)) for name in options.grid_methods if grid]

    def trained(job: _Job) -> tuple[Plain, list[Row]]:
        kind = METHODS[job.method]
        weight = training.weight * torch.tensor(job.factors, device=config.device)
        method = kind(initial(sizes, job.seeds, config.device, kind.start), weight, training)
        rates = getattr(training.rates, job.method), getattr(training.log_rates, job.method, 0.0)
        rows = train(
            method, job.seeds, data, training, key=f"{job.method} {job.seeds} {job.factors}", epochs=training.epochs,
            rate=rates[0], log_rate=rates[1], advance=bar.advance,
        )  # fmt: skip
        return method, rows

    with progress.phase("networks", sum(len(job.seeds) for job in jobs) * training.epochs * steps) as bar:
        # the slowest first, so that none is left alone at the end
        found = dict(zip(jobs[::-1], _side_by_side(trained, jobs[::-1], config), strict=True))
    tables = [_tables(job, found[job][1]) for job in jobs]
    if options.controls:
        plain, sparse = (found[next(job for job in jobs if job.method == name)] for name in ("plain", "log_sum"))
        left = sparse[1][-1]["left"]

        def tuned(job: _Job) -> tuple[Plain, list[Row]]:
            stack = Stack([w.clone() for w in plain[0].weights], [b.clone() for b in plain[0].biases])
            masks = [by_magnitude(stack.weights, left), at_random(stack.weights, left, job.seeds)][
                job.method == "random"
            ]
            method = Masked(stack, torch.ones(len(stack), device=config.device), training, masks)
            rows = train(
                method, job.seeds, data, training, key=job.method, epochs=training.fine_tuning,
                rate=training.rates.plain, advance=bar.advance,
            )  # fmt: skip
            return method, rows

        pruned = [_Job(name, (1.0,) * len(config.seed), config.seed) for name in ("magnitude", "random")]
        with progress.phase("fine-tuning", 2 * len(config.seed) * training.fine_tuning * steps) as bar:
            tables += [
                _tables(job, rows) for job, (_, rows) in zip(pruned, _side_by_side(tuned, pruned, config), strict=True)
            ]
    cells, curves = _joined(tables)
    if "penalty" in curves:
        weights = sum(a * b for a, b in pairwise(sizes))
        floor = training.weight * weights * log(training.epsilon)
        curves["above_floor"] = (curves.penalty - floor) / abs(floor)
    last = curves.groupby("cell").last()[["left", "error", "pruned_error"]].reset_index()
    cells = cells.merge(last, on="cell").assign(diverged=lambda rows: rows.left.isna())
    return Result(cells, curves, {"sizes": np.array(sizes)}, _headline(cells))


def _side_by_side(
    work: Callable[[_Job], tuple[Plain, list[Row]]], jobs: Sequence[_Job], config: Config
) -> list[tuple[Plain, list[Row]]]:
    """On as many threads as the run may use; each method's numbers are its own generators'."""
    count = threads.available(config.threads) if config.device == "cpu" else 1
    with torch_threads(1), ThreadPoolExecutor(count, initializer=_one_thread) as pool:
        return list(pool.map(work, jobs))


def _one_thread() -> None:
    torch.set_num_threads(1)
    # Where training images are fitted gradients' squares fall below 1e-38, and processors take many times as long.
    torch.set_flush_denormal(True)


def by_magnitude(weights: list[Tensor], left: Tensor) -> list[Tensor]:
    """Masks of the largest weights of each network, all layers together: the share `left` of them."""
    flat = torch.cat([w.abs().flatten(1) for w in weights], 1)
    ordered = flat.sort(1, descending=True).values
    keep = (left * flat.shape[1]).round().long().clamp(1, flat.shape[1])
    least = ordered.gather(1, keep[:, None] - 1)[:, :, None]
    return [(w.abs() >= least).float() for w in weights]


def at_random(weights: list[Tensor], left: Tensor, seeds: Sequence[int]) -> list[Tensor]:
    """Masks of as many weights in every layer as `by_magnitude` has, in random places."""
    found = []
    for number, mask in enumerate(by_magnitude(weights, left)):
        rows = []
        for one, seed in zip(mask, seeds, strict=True):
            generator = seeded_generator(f"random mask {seed} {number}")
            places = torch.randperm(one.numel(), generator=generator)[: int(one.sum())]
            rows.append(torch.zeros(one.numel()).index_fill(0, places, 1.0).view(one.shape))
        found.append(torch.stack(rows).to(mask))
    return found


def _tables(job: _Job, rows: list[Row]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The networks of a job, numbered from 0, and their rows."""
    cells = pd.DataFrame({"method": job.method, "factor": job.factors, "seed": job.seeds})
    curves = [
        pd.DataFrame({name: column.cpu().numpy() for name, column in row.items()}).assign(
            cell=range(len(cells)), step=step
        )
        for step, row in enumerate(rows)
    ]
    return cells, pd.concat(curves, ignore_index=True)


def _joined(tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    cells = pd.concat([table for table, _ in tables], ignore_index=True).rename_axis("cell").reset_index()
    starts = np.cumsum([0, *(len(table) for table, _ in tables[:-1])])
    curves = [rows.assign(cell=rows.cell + start) for (_, rows), start in zip(tables, starts, strict=True)]
    return cells, pd.concat(curves, ignore_index=True)


def _headline(cells: pd.DataFrame) -> dict[str, float]:
    mean = cells[cells.factor == 1].groupby("method")[["left", "pruned_error", "error"]].mean()
    return {
        f"{what}, {method}": float(row[column])
        for method, row in mean.iterrows()
        for what, column in (("weights left", "left"), ("test error, pruned", "pruned_error"))
    }
