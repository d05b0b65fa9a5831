"""What a step of the sweep engine costs against the samples N, the width d and the number of cells.

    python benchmarks/engine_scaling.py

a = 80, b = 100, DropBlock with r = 4, 32 masks a step, float32, all threads. One dimension varies at a time, from N =
1,000, d = 48 and 48 cells. docs/scaling.md extrapolates from these numbers.
"""

import time

import torch

from repro.data.linear import load
from repro.data.synthetic import Settings as SyntheticData
from repro.data.synthetic.load import load as synthetic
from repro.dropout import DropBlock
from repro.training.sweep.engine import Schedule, initial_factors, train
from repro.training.sweep.noise import CHUNK_NUMBERS, Cell, Problem
from support.timing import interleaved, save, shown, summary

A, B, D, N, CELLS = 80, 100, 48, 1_000, 48
WIDTHS, SAMPLES, GRIDS = (16, 32, 48, 96, 192), (100, 1_000, 10_000, 100_000), (8, 16, 48, 192, 480)
MASKS, UPDATES, SECONDS = 32, 4_000, 45.0


def data(samples: int) -> SyntheticData:
    return SyntheticData(
        kind="synthetic", in_features=B, out_features=A, samples=samples, rank=50, noise=0.0, correlation=0.0,
        whiten=False, seed=0,
    )  # fmt: skip


def work(problem: Problem, width: int, count: int):
    """A training of `count` cells, and how many updates of one cell it does: whole draws of masks, at least UPDATES."""
    cells = [Cell(DropBlock(width, 4, 0.5 + 0.4 * i / count), i) for i in range(count)]
    chunk = max(1, CHUNK_NUMBERS // width**2)
    steps = chunk * max(1, round(UPDATES / (count * chunk)))
    start, plan = initial_factors(problem, cells, 0.5), Schedule(steps, 0.02, masks_per_step=MASKS)
    threads = torch.get_num_threads()
    return lambda: train(problem, cells, start, plan, threads=threads), steps * count


def main() -> None:
    problem = Problem.from_data(*load(data(N))).to("cpu", torch.float32)
    pieces = {("d", d): work(problem, d, CELLS) for d in WIDTHS}
    pieces |= {("cells", count): work(problem, D, count) for count in GRIDS}
    moments = {}
    for samples in SAMPLES:
        X, Y = synthetic(data(samples))
        begun = time.perf_counter()
        other = Problem.from_data(X, Y)
        moments[samples] = time.perf_counter() - begun
        pieces["N", samples] = work(other.to("cpu", torch.float32), D, CELLS)
        del X, Y
    timings = interleaved({key: run for key, (run, _) in pieces.items()}, seconds=SECONDS, at_least=3)
    threads = torch.get_num_threads()
    found: dict[str, dict[str, dict[str, float]]] = {"N": {}, "d": {}, "cells": {}}
    print(f"microseconds for one update of one cell on {threads} threads, median [quartiles]")
    for (name, value), (_, updates) in pieces.items():
        found[name][str(value)] = summary([1e6 * t / updates for t in timings[name, value].wall])
        print(f"{name:>6} = {value:<8,}{shown(found[name][str(value)]):>26}")
    others = summary([o for t in timings.values() for o in t.others])
    for samples, seconds in moments.items():
        print(f"XXᵀ and YXᵀ at N = {samples:,}, once, float64: {seconds:.3f} s")
    print(f"cores busy with other programs {shown(others)}")
    results = {"microseconds": found, "moments_seconds": moments, "threads": threads, "others": others}
    save("engine_scaling", results, {})


if __name__ == "__main__":
    main()
