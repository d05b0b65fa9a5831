"""The batched engine against a plain loop: autograd on X and Y, torch.optim.SGD, one network at a time."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from repro.dropout import Bernoulli, CorrelatedGaussian, DropBlock, DropConnect, OverlappingDropBlock, distribution
from repro.dropout.overlapping_dropblock import masks as overlapping_masks
from repro.theory import dropblock_objective, expected_objective
from repro.training.sweep import Settings, engine
from repro.training.sweep import noise as noise_module
from repro.training.sweep.engine import Schedule, initial_factors, log_steps, train
from repro.training.sweep.noise import Cell, Problem, noise_of

FLOAT = torch.float64
OUTPUTS, INPUTS, WIDTH, SAMPLES = 5, 7, 8, 30

GRIDS = {
    "hidden": [
        Cell(Bernoulli(WIDTH, 0.6), 0),
        Cell(DropBlock(WIDTH, 4, 0.5), 0),
        Cell(DropBlock(WIDTH, 2, 0.5), 1),
        Cell(OverlappingDropBlock(WIDTH, 3, 0.7), 2),
        Cell(CorrelatedGaussian(WIDTH, 0.8, 0.6), 3),
    ],
    "U": [Cell(DropConnect(OUTPUTS, WIDTH, retain), 0) for retain in (0.5, 0.9)],
    "V": [Cell(DropConnect(INPUTS, WIDTH, retain, "V"), 0) for retain in (0.5, 0.9)],
}
PLAN = Schedule(steps=60, learning_rate=0.1, momentum=0.8, masks_per_step=3, warmup=0.2)


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(INPUTS, INPUTS, generator=generator, dtype=FLOAT)
    X = mix @ torch.randn(INPUTS, SAMPLES, generator=generator, dtype=FLOAT)
    Y = torch.randn(OUTPUTS, SAMPLES, generator=generator, dtype=FLOAT) + 0.3 * X[:OUTPUTS]
    return X / torch.linalg.matrix_norm(X, 2), Y / torch.linalg.matrix_norm(Y, 2)


@pytest.fixture(scope="module")
def problem(data) -> Problem:
    return Problem.from_data(*data)


def replayed(cell: Cell, plan: Schedule) -> tuple[Tensor, ...]:
    """The normalised masks of each step, drawn again from the cell's generator as far ahead as the engine draws."""
    generator, hidden = cell.generator("masks"), cell.masks.target == "hidden"
    ahead = max(1, noise_module.CHUNK_NUMBERS // WIDTH**2) if hidden else 1
    draws = [
        cell.masks.sample_normalized(ahead * plan.masks_per_step, generator, FLOAT)
        for _ in range(math.ceil(plan.steps / ahead))
    ]
    return torch.cat(draws)[: plan.steps * plan.masks_per_step].split(plan.masks_per_step)


def plain_loop(cell: Cell, start, data, plan: Schedule, momentum: float | None = None) -> tuple[Tensor, Tensor]:
    """One network trained as a textbook has it."""
    X, Y = data
    U, V = (factor.clone().requires_grad_() for factor in start)
    variance = ((1 - cell.masks.mean) / cell.masks.mean).max()  # of a 0/1 mask
    if cell.masks.target == "hidden":
        variance = cell.masks.relative_covariance.diagonal().max()
    peak = plan.learning_rate / (1 + float(variance) / plan.masks_per_step)
    optimizer = torch.optim.SGD([U, V], lr=peak, momentum=plan.momentum if momentum is None else momentum)
    for step, masks in enumerate(replayed(cell, plan)):
        optimizer.param_groups[0]["lr"] = peak * plan.factor(step)
        on_U = masks[:, None] if cell.masks.target == "hidden" else masks
        left, right = (U, masks * V) if cell.masks.target == "V" else (on_U * U, V)
        losses = (Y - left @ right.mT @ X).square().sum((-2, -1))
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    return U.detach(), V.detach()


def close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool((found - expected).norm() <= tolerance * expected.norm())


@pytest.mark.parametrize("target", GRIDS)
def test_the_engine_is_the_plain_loop(data, problem, target, monkeypatch):
    monkeypatch.setattr(noise_module, "CHUNK_NUMBERS", 25 * WIDTH**2)  # 60 steps are two draws and a part
    cells = GRIDS[target]
    start = initial_factors(problem, cells, 0.5)
    before = [factor.clone() for factor in start]
    U, V = train(problem, cells, start, PLAN)
    assert all(torch.equal(now, then) for now, then in zip(start, before, strict=True))  # the start is left alone
    for i, cell in enumerate(cells):
        expected = plain_loop(cell, (start[0][i], start[1][i]), data, PLAN)
        assert close(U[i], expected[0], 1e-12)
        assert close(V[i], expected[1], 1e-12)
        assert not close(U[i], start[0][i], 0.1)  # something was learned
        # Controls: another momentum, and another seed's masks.
        assert not close(U[i], plain_loop(cell, (start[0][i], start[1][i]), data, PLAN, momentum=0.7)[0], 1e-3)
        other = plain_loop(Cell(cell.masks, cell.seed + 1), (start[0][i], start[1][i]), data, PLAN)
        assert not close(U[i], other[0], 1e-3)


def test_deterministic_descent_is_a_plain_loop_on_the_objective(data, problem):
    cell = GRIDS["hidden"][1]
    start = initial_factors(problem, [cell], 0.5)
    found = train(problem, [cell], start, PLAN, deterministic=True)
    U, V = (factor.clone().requires_grad_() for factor in start)
    peak = PLAN.learning_rate / (1 + 1 / PLAN.masks_per_step)  # (1−θ)/θ = 1
    optimizer = torch.optim.SGD([U, V], lr=peak, momentum=PLAN.momentum)
    for step in range(PLAN.steps):
        optimizer.param_groups[0]["lr"] = peak * PLAN.factor(step)
        optimizer.zero_grad()
        dropblock_objective(U, V, *data, 4, 0.5).sum().backward()
        optimizer.step()
    assert close(found[0], U.detach(), 1e-12)
    assert close(found[1], V.detach(), 1e-12)
    assert not close(train(problem, [cell], start, PLAN)[0], U.detach(), 1e-3)  # control: sampled masks


@pytest.fixture
def drawn(monkeypatch):
    """Every 0/1 mask drawn since, by the seed of its generator."""
    streams: dict[int, list[Tensor]] = {}
    draw = distribution.bernoulli

    def spy(shape, retain, generator, dtype):
        masks = draw(shape, retain, generator, dtype)
        streams.setdefault(generator.initial_seed(), []).append(masks.clone())
        return masks

    for module in (distribution, overlapping_masks):
        monkeypatch.setattr(module, "bernoulli", spy)
    return streams


@pytest.mark.parametrize("target", GRIDS)
def test_a_cell_does_not_depend_on_its_neighbours(problem, target, drawn, monkeypatch):
    """Alone, among others, in another order or in a shard: the same masks to the bit, the same factors to rounding."""
    monkeypatch.setattr(noise_module, "CHUNK_NUMBERS", 25 * WIDTH**2)
    cells = GRIDS[target]
    U, V = train(problem, cells, initial_factors(problem, cells, 0.5), PLAN)
    together = dict(drawn)
    drawn.clear()
    for shard in ([0], [1, 0], list(range(1, len(cells)))):
        part = [cells[i] for i in shard]
        start = initial_factors(problem, part, 0.5)
        found = train(problem, part, start, PLAN)
        assert set(drawn) <= set(together)
        for seed, masks in drawn.items():
            assert len(masks) == len(together[seed])
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(masks, together[seed], strict=True))
        drawn.clear()
        for position, i in enumerate(shard):
            assert close(found[0][position], U[i], 1e-12)
            assert close(found[1][position], V[i], 1e-12)
            assert not close(found[0][position], U[i - 1], 1e-3)


def test_seeds_and_schemes_have_masks_of_their_own(problem, drawn):
    cells = [Cell(DropBlock(WIDTH, 2, 0.5), 0), Cell(DropBlock(WIDTH, 2, 0.5), 1), Cell(DropBlock(WIDTH, 1, 0.5), 0)]
    train(problem, cells, initial_factors(problem, cells, 0.5), Schedule(2, 0.01))
    first, second, third = (torch.cat(masks).flatten()[:1000] for masks in drawn.values())
    assert not torch.equal(first, second)
    assert not torch.equal(first, third)


def test_a_diverging_cell_leaves_the_others_alone(problem):
    cells = GRIDS["hidden"]
    start = initial_factors(problem, cells, 0.5)
    U, _ = train(problem, cells, start, PLAN)
    far = [factor.clone() for factor in start]
    far[0][1] *= 1e3
    broken, _ = train(problem, cells, (far[0], far[1]), PLAN)
    assert not broken[1].isfinite().all()
    others = [0, 2, 3, 4]
    assert broken[others].isfinite().all()
    assert close(broken[others], U[others], 1e-12)


def test_training_lowers_the_objective_it_says(data, problem):
    cells = GRIDS["hidden"]
    U, V = train(problem, cells, initial_factors(problem, cells, 0.5), Schedule(600, 0.2, masks_per_step=8))
    start = initial_factors(problem, cells, 0.5)
    for i, cell in enumerate(cells):
        moments = cell.masks.mean, cell.masks.covariance
        first, last = (expected_objective(u[i], v[i], *data, *moments) for u, v in (start, (U, V)))
        assert last < 0.9 * first


def test_measurements_happen_when_asked_and_change_nothing(problem):
    cells = GRIDS["hidden"][:2]
    start = initial_factors(problem, cells, 0.5)
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    advanced: list[int] = []

    def measure(step, U, V):
        assert U.dtype == V.dtype == FLOAT
        seen[step] = U.clone(), V.clone()
        U.zero_(), V.zero_()  # a measurement may do what it likes with its copies

    for dtype in (torch.float32, FLOAT):
        seen.clear(), advanced.clear()
        placed = problem.to("cpu", dtype)
        U, V = train(placed, cells, start, PLAN, log_at=[0, 7, 60], measure=measure, advance=advanced.append)
        quiet = train(placed, cells, start, PLAN)
        assert torch.equal(U, quiet[0])
        assert torch.equal(V, quiet[1])
        assert list(seen) == [0, 7, 60]
        assert advanced == [0, 7, 53]
        assert torch.equal(seen[0][0], start[0].to(dtype).double())
        assert torch.equal(seen[60][0], U.double())
        assert not torch.equal(seen[7][0], U.double())


def test_single_precision_follows_double(problem):
    cells = GRIDS["hidden"][:4]  # a Gaussian draws other numbers in another precision
    start = initial_factors(problem, cells, 0.5)
    exact = train(problem, cells, start, PLAN)
    rough = train(problem.to("cpu", torch.float32), cells, start, PLAN)
    for mine, theirs in zip(rough, exact, strict=True):
        assert mine.dtype == torch.float32
        assert close(mine.double(), theirs, 1e-4)
        assert not torch.equal(mine.double(), theirs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("target", GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT])
def test_cuda(data, problem, target, dtype):
    """The same descent on the GPU; SGD draws other masks there but descends the same objective."""
    cells = GRIDS[target]
    start = initial_factors(problem, cells, 0.5)
    there = problem.to("cuda", dtype)
    tolerance = 1e-12 if dtype == FLOAT else 1e-4
    here = train(problem.to("cpu", dtype), cells, start, PLAN, deterministic=True)
    found = train(there, cells, start, PLAN, deterministic=True)
    for mine, theirs in zip(found, here, strict=True):
        assert (mine.device.type, mine.dtype) == ("cuda", dtype)
        assert close(mine.cpu(), theirs, tolerance)
    U, V = train(there, cells, start, PLAN)
    again, _ = train(there, cells[:1], (start[0][:1], start[1][:1]), PLAN)
    assert close(again[0].cpu(), U[0].cpu(), tolerance)
    exact = noise_of(problem, cells)
    first, last = exact.objective(*start), exact.objective(U.double().cpu(), V.double().cpu())
    assert (last < first).all()


def test_the_schedule_rises_and_decays():
    plan = Schedule(steps=100, learning_rate=1.0, warmup=0.1)
    cosine = [0.5 * (1 + math.cos(math.pi * step / 100)) for step in range(100)]
    assert [plan.factor(step) for step in (0, 4, 9)] == pytest.approx([0.1 * cosine[0], 0.5 * cosine[4], cosine[9]])
    assert [plan.factor(step) for step in (10, 50, 99)] == pytest.approx([cosine[10], 0.5, cosine[99]])
    assert plan.factor(99) < 1e-3
    constant = Schedule(steps=100, learning_rate=1.0, warmup=0.1, decay="constant")
    assert [constant.factor(step) for step in (0, 9, 10, 99)] == pytest.approx([0.1, 1, 1, 1])
    assert Schedule(steps=100, learning_rate=1.0, warmup=0.0).factor(0) == 1.0
    assert Schedule(steps=1, learning_rate=1.0, warmup=1.0).factor(0) == 1.0


def test_a_schedule_of_settings():
    settings = Settings(
        kind="sweep", steps=7, masks_per_step=3, learning_rate=0.2, momentum=0.5, warmup=0.1, schedule="constant",
        dtype="float32", log_points=2,
    )  # fmt: skip
    assert Schedule.of(settings) == Schedule(7, 0.2, momentum=0.5, masks_per_step=3, warmup=0.1, decay="constant")


@pytest.mark.parametrize(("steps", "points"), [(1, 2), (3, 40), (100, 6), (2000, 40), (20000, 40)])
def test_log_steps(steps, points):
    found = log_steps(steps, points)
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (0, steps)
    assert len(found) <= points + 1
    if steps > 10 * points:
        assert len(found) > points / 2
        # Evenly on a logarithmic scale: the second half of the points begins at about √steps.
        assert found[len(found) // 2] < steps**0.75
        ratios = [(b + 1) / (a + 1) for a, b in itertools.pairwise(found) if a > 20]
        assert max(ratios) < 1.2 * min(ratios)


def test_one_seed_starts_in_one_direction(problem):
    cells = [Cell(Bernoulli(WIDTH, 0.9), 4), Cell(DropBlock(WIDTH, 4, 0.2), 4), Cell(Bernoulli(WIDTH, 0.9), 5)]
    U, V = initial_factors(problem, cells, 0.7)
    assert U.shape == (3, OUTPUTS, WIDTH)
    assert V.shape == (3, INPUTS, WIDTH)
    assert U.dtype == V.dtype == FLOAT
    for factor in (U, V):
        torch.testing.assert_close(factor[0] / 0.9**0.25, factor[1] / 0.2**0.25)
        assert not torch.allclose(factor[0], factor[2])
    alone = initial_factors(problem, cells[2:], 0.7)
    assert torch.equal(alone[0][0], U[2])
    assert torch.equal(alone[1][0], V[2])


def test_the_start_has_the_scale_it_says(problem):
    cells = [Cell(DropBlock(2000, 4, 0.2), 0)]
    for factor in initial_factors(problem, cells, 0.7):
        norm = factor.square().sum(1).mean().sqrt()
        assert float(norm) == pytest.approx(0.7 * 0.2**0.25, rel=0.03)


MANY = [Cell(DropBlock(WIDTH, r, retain), seed) for r in (1, 2, 4) for retain in (0.3, 0.7) for seed in range(3)]


def test_shards_and_threads_change_nothing(problem, monkeypatch):
    """More cells than a shard holds: the same to the bit on any number of threads, to rounding for any shards."""
    start = initial_factors(problem, MANY, 0.5)
    assert len(MANY) > 2 * engine.SHARD
    before, found, seen = torch.get_num_threads(), {}, []
    try:
        for threads, outside in ((1, 1), (3, 1), (1, 3)):
            torch.set_num_threads(outside)
            found[threads] = train(
                problem, MANY, start, PLAN, log_at=[30], measure=lambda step, U, V: seen.append(U), threads=threads
            )
            assert torch.get_num_threads() == outside
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[1][0], found[3][0])
    assert torch.equal(found[1][1], found[3][1])
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert seen[0].shape == (len(MANY), OUTPUTS, WIDTH)
    monkeypatch.setattr(engine, "SHARD", 5)
    other = train(problem, MANY, start, PLAN)
    for i in range(len(MANY)):
        assert close(other[0][i], found[1][0][i], 1e-12)
        assert close(other[1][i], found[1][1][i], 1e-12)
        assert not close(other[0][i], found[1][0][i - 1], 1e-3)


def test_a_failure_in_one_shard_comes_through(problem, monkeypatch):
    run = engine._Shard.run

    def failing(shard, begin, end):
        if len(shard.factors[0]) == 2:  # the last of 8, 8 and 2
            raise ZeroDivisionError
        run(shard, begin, end)

    monkeypatch.setattr(engine._Shard, "run", failing)
    threads = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        train(problem, MANY, initial_factors(problem, MANY, 0.5), PLAN)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("cells", [[GRIDS["hidden"][0], GRIDS["U"][0]], [GRIDS["hidden"][0]] * 8 + [GRIDS["U"][0]]])
def test_cells_of_different_targets_do_not_mix(problem, cells):
    with pytest.raises(ValueError, match="must mask one target"):
        train(problem, cells, initial_factors(problem, cells, 0.5), PLAN)
