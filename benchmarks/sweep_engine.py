"""The sweep engine beside a plain PyTorch loop on the same 48 cells: a=80, b=100, d=48, N=1000, float32.

    python benchmarks/sweep_engine.py

The plain loop trains one configuration at a time with autograd and torch.optim.SGD on ‖Y − U diag(z/θ) VᵀX‖². First
both get the same masks and must give the same iterates; then they are timed in turn, with all threads and with one.
A step is one update of one cell. Memory shared with other programs slows both sides; ratios are formed within rounds.
"""

import os
import time
from collections.abc import Iterator
from itertools import cycle, islice

# Threads that wait asleep leave the core to others: where it is shared, the plain loop and the matrix product are
# several times faster with it. The engine's threads do not wait for one another in any case.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

from repro.config import SyntheticData
from repro.data.linear import LinearData, load
from repro.dropout import DropBlock
from repro.theory import retain_probability
from repro.training.noise import CHUNK_NUMBERS, Cell, Problem
from repro.training.sweep import Schedule, initial_factors, train
from support.timing import interleaved, ratio, save, shown, summary

A, B, D, N, MANY = 80, 100, 48, 1_000, 100_000
BLOCK_SIZES, PROBABILITIES, SEEDS = (1, 2, 4, 8), (0.5, 0.7, 0.8, 0.9), (0, 1, 2)
LEARNING_RATE, MOMENTUM, INIT_SCALE = 0.02, 0.9, 0.5
DEFAULT_MASKS = 32  # a step's masks in the experiments
CHUNK = CHUNK_NUMBERS // D**2  # steps for which the engine draws masks at a time
STEPS = 2 * CHUNK
PLAIN_CELLS, PLAIN_STEPS = 4, 15  # of one timing of the plain loop, which goes through the cells in turn
SQUARE = 1536  # side of the matrices that give the machine's rate
SECONDS = 20.0  # for the rounds of one number of threads
TARGET = 15.0

# Multiply-adds of one step of one cell in repro.training.noise: XXᵀV, YXᵀV and XYᵀU; VᵀXXᵀV and UᵀU; then each
# of these times a factor.
MULTIPLY_ADDS = B * B * D + 2 * A * B * D + D * D * (B + A) + D * D * (A + B)

Factors = tuple[Tensor, Tensor]


def data(samples: int) -> LinearData:
    return load(
        SyntheticData(
            kind="synthetic", in_features=B, out_features=A, samples=samples, rank=50, noise=0.0, correlation=0.0,
            whiten=False, seed=0,
        )
    )  # fmt: skip


def grid() -> list[Cell]:
    return [
        Cell(DropBlock(D, r, float(retain_probability(p, D, r))), seed)
        for r in BLOCK_SIZES
        for p in PROBABILITIES
        for seed in SEEDS
    ]


def schedule(steps: int, masks: int = 1) -> Schedule:
    return Schedule(steps, LEARNING_RATE, MOMENTUM, masks)


def plain(data: LinearData, cell: Cell, start: Factors, schedule: Schedule, masks: Iterator[Tensor]) -> Factors:
    """The loop that one would write first."""
    X, Y = data
    U, V = (factor.clone().requires_grad_() for factor in start)
    theta = cell.masks.retain
    peak = schedule.learning_rate / (1 + (1 - theta) / theta)
    optimizer = torch.optim.SGD([U, V], lr=peak, momentum=schedule.momentum)
    for step, z in zip(range(schedule.steps), masks, strict=False):
        optimizer.param_groups[0]["lr"] = peak * schedule.factor(step)
        optimizer.zero_grad()
        loss = (Y - (U * (z / theta)) @ (V.mT @ X)).square().sum()
        loss.backward()
        optimizer.step()
    return U.detach(), V.detach()


def own_masks(cell: Cell, dtype: torch.dtype) -> Iterator[Tensor]:
    """Masks one at a time, as a plain loop draws them."""
    r, theta = cell.masks.block_size, cell.masks.retain
    while True:
        yield (torch.rand(D // r) < theta).to(dtype).repeat_interleave(r)


def engines_masks(cell: Cell, dtype: torch.dtype) -> Iterator[Tensor]:
    """The masks that the engine draws for a cell at one mask a step."""
    generator = cell.generator("masks")
    while True:
        yield from cell.masks.sample(CHUNK, generator, dtype)


def difference(found: Factors, expected: Factors) -> float:
    """Relative distance of the predictions' factors."""
    return max(float((f - e).norm() / e.norm()) for f, e in zip(found, expected, strict=True))


def check_equal(full: LinearData, cells: list[Cell]) -> dict[str, float]:
    """Largest difference of the iterates, engine to plain loop on the same masks, over one cell a block size.

    Goes beyond the first chunk of masks. The negative control is the plain loop on masks of its own.
    """
    few, found = cells[:: len(cells) // 4], {}
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        converted = LinearData(full.X.to(dtype), full.Y.to(dtype))
        problem = Problem.from_data(*full).to("cpu", dtype)
        start = initial_factors(problem, few, INIT_SCALE)
        plan = schedule(CHUNK + 8)
        U, V = train(problem, few, start, plan)

        def worst(draw, U=U, V=V, converted=converted, start=start, plan=plan, dtype=dtype) -> list[float]:
            ends = [
                plain(converted, cell, (u.to(dtype), v.to(dtype)), plan, draw(cell, dtype))
                for cell, u, v in zip(few, *start, strict=True)
            ]
            return [difference((u, v), end) for u, v, end in zip(U, V, ends, strict=True)]

        same, other = max(worst(engines_masks)), min(worst(own_masks))
        assert same < tolerance < other / 10, f"{dtype}: {same:.1e} on the same masks, {other:.1e} on others"
        found[str(dtype).removeprefix("torch.")] = same
    return found


def main() -> None:
    cells = grid()
    full = data(N)
    equal = check_equal(full, cells)
    print("engine and plain loop on the same masks:", ", ".join(f"{v:.0e} in {k}" for k, v in equal.items()))

    big = data(MANY)
    begun = time.perf_counter()
    problem_big = Problem.from_data(*big).to("cpu", torch.float32)
    moments = time.perf_counter() - begun
    del big
    problem = Problem.from_data(*full).to("cpu", torch.float32)
    single = LinearData(full.X.float(), full.Y.float())
    start = initial_factors(problem, cells, INIT_SCALE)
    start_single = start[0].float(), start[1].float()
    square = torch.randn(SQUARE, SQUARE)
    in_turn = cycle(range(len(cells)))

    def plain_cells() -> None:
        for i in islice(in_turn, PLAIN_CELLS):
            begin = start_single[0][i], start_single[1][i]
            plain(single, cells[i], begin, schedule(PLAIN_STEPS), own_masks(cells[i], torch.float32))

    work = {
        "plain loop": plain_cells,
        "engine": lambda: train(problem, cells, start, schedule(STEPS)),
        f"engine, {DEFAULT_MASKS} masks": lambda: train(problem, cells, start, schedule(STEPS, DEFAULT_MASKS)),
        f"engine, N = {MANY:,}": lambda: train(problem_big, cells, start, schedule(STEPS)),
        "matrix product": lambda: torch.mm(square, square),
    }
    amount = {name: STEPS * len(cells) for name in work}
    amount |= {"plain loop": PLAIN_CELLS * PLAIN_STEPS, "matrix product": SQUARE**3}
    found = {}
    available = torch.get_num_threads()
    for threads in sorted({available, 1}, reverse=True):
        torch.set_num_threads(threads)
        timings = interleaved(work, seconds=SECONDS)
        wall = {name: [t / amount[name] for t in timings[name].wall] for name in work}
        cpu = {name: [t / amount[name] for t in timings[name].cpu] for name in work}
        here = {
            "steps_per_second": {
                name: summary([1 / t for t in times]) for name, times in wall.items() if name != "matrix product"
            },
            "multiply_adds_per_second": summary([1 / t for t in wall["matrix product"]]),
            "ratio": ratio(wall["plain loop"], wall["engine"]),
            "ratio_of_cpu_time": ratio(cpu["plain loop"], cpu["engine"]),
            "share_of_matrix_rate": ratio([MULTIPLY_ADDS * t for t in wall["matrix product"]], wall["engine"]),
            "share_of_matrix_rate_32_masks": ratio(
                [MULTIPLY_ADDS * t for t in wall["matrix product"]], wall[f"engine, {DEFAULT_MASKS} masks"]
            ),
            "cost_of_32_masks": ratio(wall[f"engine, {DEFAULT_MASKS} masks"], wall["engine"]),
            "cost_of_many_samples": ratio(wall[f"engine, N = {MANY:,}"], wall["engine"]),
        }
        found[f"{threads} threads"] = here
        print(f"\n{threads} thread{'s' * (threads > 1)}, median [quartiles] of {here['ratio']['rounds']} rounds")
        for name, numbers in here["steps_per_second"].items():
            print(f"  {name + ', steps per second':<46}{shown(numbers, 0):>28}")
        for name, numbers, digits in (
            ("engine / plain loop", here["ratio"], 1),
            ("the same in processor time", here["ratio_of_cpu_time"], 1),
            ("share of the matrix-multiply rate", here["share_of_matrix_rate"], 2),
            (f"the same with {DEFAULT_MASKS} masks a step", here["share_of_matrix_rate_32_masks"], 2),
            (f"cost of {DEFAULT_MASKS} masks a step / of one", here["cost_of_32_masks"], 2),
            (f"cost of a step at N = {MANY:,} / at N = {N:,}", here["cost_of_many_samples"], 2),
        ):
            print(f"  {name:<46}{shown(numbers, digits):>28}")
        rate = here["multiply_adds_per_second"]
        print(f"  {'matrix-multiply rate, 10⁹ multiply-adds/s':<46}{rate['median'] / 1e9:>28.0f}")
    torch.set_num_threads(available)

    # The plain loop may be faster with one thread: the engine with all of them against whichever is.
    fastest = max(here["steps_per_second"]["plain loop"]["median"] for here in found.values())
    against_fastest = found[f"{available} threads"]["steps_per_second"]["engine"]["median"] / fastest
    headline = found[f"{available} threads"]["ratio"]["median"]
    print(f"\nmultiply-adds of a step of a cell: {MULTIPLY_ADDS:,}")
    print(f"XXᵀ, YXᵀ at N = {MANY:,}, once, float64: {moments:.2f} s")
    print(f"engine / plain loop: {headline:.1f}, with each its best number of threads {against_fastest:.1f}", end="; ")
    print(f"target {TARGET:.0f}: {'reached' if min(headline, against_fastest) >= TARGET else 'MISSED'}")
    save(
        "sweep_engine",
        {
            "difference_on_same_masks": equal,
            **found,
            "ratio_each_at_its_best_threads": against_fastest,
            "target": TARGET,
            "multiply_adds_per_step": MULTIPLY_ADDS,
            "moments_seconds": {f"N = {MANY}": moments},
        },
    )


if __name__ == "__main__":
    main()
