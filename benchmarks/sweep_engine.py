"""The sweep engine beside a plain PyTorch loop on the same 48 cells: a=80, b=100, d=48, N=1000, float32.

    python benchmarks/sweep_engine.py

The plain loop trains one configuration at a time with autograd and torch.optim.SGD on ‖Y − U diag(z/θ) VᵀX‖². First
both get the same masks and must give the same iterates; then they are timed in turn, with all threads and with one, and
ratios are formed within a round. A step is one update of one cell. The other peer is `torch.func.vmap` of that very
step over all cells, and, to give it the engine's idea too, of the same loss written in XXᵀ and YXᵀ.

How torch's threads wait for one another is left at its default: waiting asleep (OMP_WAIT_POLICY=PASSIVE) costs the
plain loop a factor of four on a free machine, waiting awake as much or more on a busy one. So each peer counts with the
number of threads that serves it best in that round, as does the matrix product, and the cores that other programs took
are shown.
"""

import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice

import torch
from torch import Tensor
from torch.func import grad, vmap

from repro.data.linear import LinearData, load
from repro.data.synthetic import Settings as SyntheticData
from repro.dropout import DropBlock
from repro.theory import retain_probability
from repro.training.sweep.engine import Schedule, initial_factors, train
from repro.training.sweep.noise import CHUNK_NUMBERS, Cell, Problem
from support.timing import interleaved, ratio, save, shown, summary

A, B, D, N, MANY = 80, 100, 48, 1_000, 100_000
BLOCK_SIZES, PROBABILITIES, SEEDS = (1, 2, 4, 8), (0.5, 0.7, 0.8, 0.9), (0, 1, 2)
LEARNING_RATE, MOMENTUM, INIT_SCALE = 0.02, 0.9, 0.5
DEFAULT_MASKS = 32  # a step's masks in the experiments
CHUNK = CHUNK_NUMBERS // D**2  # steps for which the engine draws masks at a time
STEPS = 2 * CHUNK
VMAP_STEPS = 4
PLAIN_CELLS, PLAIN_STEPS = 4, 15  # of one timing of the plain loop, which goes through the cells in turn
SQUARE = 1536  # side of the matrices that give the machine's rate
SECONDS = 40.0  # for all rounds
TARGET = 15.0

# Multiply-adds of one step of one cell in repro.training.sweep.noise: XXᵀV; VᵀXXᵀV and UᵀU; then each of these times a
# factor. In the bases in which the engine works YXᵀ is diagonal, which saves YXᵀV and XYᵀU.
MULTIPLY_ADDS = B * B * D + D * D * (B + A) + D * D * (A + B)
SAVED = 2 * A * B * D

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


def vmapped(loss: Callable[..., Tensor], cells: list[Cell], start: Factors, steps: int) -> Factors:
    """SGD with momentum on all cells, the gradient of `loss`(U, V, z/θ) by `torch.func.vmap`."""
    U, V = (factor.clone() for factor in start)
    theta = torch.tensor([cell.masks.retain for cell in cells])
    sizes = [cell.masks.block_size for cell in cells]
    peak = (LEARNING_RATE / (1 + (1 - theta) / theta))[:, None, None]
    plan, velocity = schedule(steps), [torch.zeros_like(U), torch.zeros_like(V)]
    gradients = vmap(grad(loss, argnums=(0, 1)))
    for step in range(steps):
        blocks = torch.rand(len(cells), D)
        z = torch.stack(
            [(row[: D // r] < t).repeat_interleave(r) for row, r, t in zip(blocks, sizes, theta, strict=True)]
        )
        rate = peak * plan.factor(step)
        for factor, moment, gradient in zip((U, V), velocity, gradients(U, V, z / theta[:, None]), strict=True):
            moment.mul_(MOMENTUM).add_(gradient)
            factor.sub_(rate * moment)
    return U, V


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
    threads = torch.get_num_threads()

    def plain_loop() -> None:
        for i in islice(in_turn, PLAIN_CELLS):
            begin = start_single[0][i], start_single[1][i]
            plain(single, cells[i], begin, schedule(PLAIN_STEPS), own_masks(cells[i], torch.float32))

    def engine(problem: Problem = problem, masks: int = 1) -> Callable[[], object]:
        return lambda: train(problem, cells, start, schedule(STEPS, masks), threads=torch.get_num_threads())

    X, Y = single

    def squared_error(U: Tensor, V: Tensor, z: Tensor) -> Tensor:
        return (Y - (U * z) @ (V.mT @ X)).square().sum()

    def by_moments(U: Tensor, V: Tensor, z: Tensor) -> Tensor:
        W = U * z
        return ((W.mT @ W) * (V.mT @ (problem.gram @ V))).sum() - 2 * (W * (problem.cross @ V)).sum()

    def vmap_of(loss: Callable[..., Tensor]) -> Callable[[], object]:
        return lambda: vmapped(loss, cells, start_single, VMAP_STEPS)

    def product() -> Tensor:
        return torch.mm(square, square)

    def alone(task: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            torch.set_num_threads(1)
            task()
            torch.set_num_threads(threads)

        return run

    whole, few = STEPS * len(cells), PLAIN_CELLS * PLAIN_STEPS
    # The work, and how many steps (of the matrix product: multiply-adds) it is.
    work: dict[str, tuple[Callable[[], object], int]] = {
        "engine": (engine(), whole),
        "plain": (plain_loop, few),
        "engine alone": (alone(engine()), whole),
        "plain alone": (alone(plain_loop), few),
        "vmap": (vmap_of(squared_error), VMAP_STEPS * len(cells)),
        "vmap alone": (alone(vmap_of(squared_error)), VMAP_STEPS * len(cells)),
        "vmap moments": (vmap_of(by_moments), VMAP_STEPS * len(cells)),
        "vmap moments alone": (alone(vmap_of(by_moments)), VMAP_STEPS * len(cells)),
        "default masks": (engine(masks=DEFAULT_MASKS), whole),
        "many samples": (engine(problem_big), whole),
        "product": (product, SQUARE**3),
        "product alone": (alone(product), SQUARE**3),
    }
    timings = interleaved({name: task for name, (task, _) in work.items()}, seconds=SECONDS)
    wall = {name: [t / work[name][1] for t in timings[name].wall] for name in work}
    cpu = {name: [t / work[name][1] for t in timings[name].cpu] for name in work}

    def best(name: str) -> list[float]:
        return [min(pair) for pair in zip(wall[name], wall[f"{name} alone"], strict=True)]

    def share(step: list[float], product: list[float], multiply_adds: int = MULTIPLY_ADDS) -> dict[str, float]:
        return ratio([multiply_adds * t for t in product], step)

    def rate(name: str) -> dict[str, float]:
        return summary([1 / t for t in wall[name]])

    on = f"{threads} threads"
    headline = f"engine on {on} / plain loop on {threads} or 1, the faster"
    table = {
        headline: ratio(best("plain"), wall["engine"]),
        f"  on {on} each": ratio(wall["plain"], wall["engine"]),
        "  one thread each": ratio(wall["plain alone"], wall["engine alone"]),
        "  one thread each, in processor time": ratio(cpu["plain alone"], cpu["engine alone"]),
        f"engine on {on} / vmap of the same step, the faster": ratio(best("vmap"), wall["engine"]),
        f"engine on {on} / vmap of the loss in XXᵀ and YXᵀ, the faster": ratio(best("vmap moments"), wall["engine"]),
        f"engine's share of the matrix-multiply rate, {on}": share(wall["engine"], best("product")),
        "  counting the products that diagonal YXᵀ saves": share(
            wall["engine"], best("product"), MULTIPLY_ADDS + SAVED
        ),
        f"  with {DEFAULT_MASKS} masks a step": share(wall["default masks"], best("product")),
        "  one thread": share(wall["engine alone"], wall["product alone"]),
        f"cost of a step of {DEFAULT_MASKS} masks / of one mask": ratio(wall["default masks"], wall["engine"]),
        f"cost of a step at N = {MANY:,} / at N = {N:,}": ratio(wall["many samples"], wall["engine"]),
        "cores busy with other programs": summary([o for name in work for o in timings[name].others]),
    }
    rates = {
        f"engine, {on}": rate("engine"),
        f"engine, {on}, {DEFAULT_MASKS} masks a step": rate("default masks"),
        "engine, one thread": rate("engine alone"),
        f"plain loop, {on}": rate("plain"),
        "plain loop, one thread": rate("plain alone"),
    }
    multiply_adds = {on: rate("product"), "one thread": rate("product alone")}
    print(f"\nmedian [quartiles] of {len(wall['engine'])} rounds")
    for name, numbers in table.items():
        print(f"{name:<72}{shown(numbers, 2):>24}")
    for name, numbers in rates.items():
        print(f"{'steps per second, ' + name:<72}{shown(numbers, 0):>24}")
    for name, numbers in multiply_adds.items():
        giga = {key: value if key == "rounds" else value / 1e9 for key, value in numbers.items()}
        print(f"{'10⁹ multiply-adds per second of a matrix product, ' + name:<72}{shown(giga, 0):>24}")
    print(f"multiply-adds of a step: {MULTIPLY_ADDS:,}; XXᵀ, YXᵀ at N = {MANY:,}, once, float64: {moments:.2f} s")
    middle = table[headline]["median"]
    print(f"{headline}: {middle:.1f}, {'at least' if middle >= TARGET else 'BELOW'} {TARGET:.0f}")
    save(
        "sweep_engine",
        {
            "difference_on_same_masks": equal,
            "ratios": {name.strip(): numbers for name, numbers in table.items()},
            "steps_per_second": rates,
            "matrix_multiply_adds_per_second": multiply_adds,
            "multiply_adds_of_a_step": MULTIPLY_ADDS,
            "moments_seconds": {f"N = {MANY:,}": moments},
            "target": TARGET,
        },
        {
            "one configuration at a time": table[headline] | {"target": TARGET},
            "torch.func.vmap of the same step": ratio(best("vmap"), wall["engine"]) | {"target": 2.0},
            "torch.func.vmap, loss in XXᵀ and YXᵀ": ratio(best("vmap moments"), wall["engine"]),
        },
    )


if __name__ == "__main__":
    main()
