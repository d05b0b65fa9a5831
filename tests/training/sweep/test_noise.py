"""The moment form of objectives and gradients against the loss itself, ‖Y − U diag(z̃) VᵀX‖², on X and Y."""

import pytest
import torch
from torch import Tensor

from repro.dropout import Bernoulli, CorrelatedGaussian, DropBlock, DropConnect, OverlappingDropBlock
from repro.theory import dropblock_objective, dropconnect_objective, expected_objective
from repro.training.sweep import noise as noise_module
from repro.training.sweep.noise import Cell, Problem, noise_of, seeded_generator

FLOAT = torch.float64
OUTPUTS, INPUTS, WIDTH, SAMPLES = 5, 7, 6, 20

HIDDEN = [
    Bernoulli(WIDTH, 0.6),
    DropBlock(WIDTH, 3, 0.5),
    OverlappingDropBlock(WIDTH, 4, 0.7),
    CorrelatedGaussian(WIDTH, 0.8, 0.6),
]
GRIDS = {
    "hidden": HIDDEN,
    "U": [DropConnect(OUTPUTS, WIDTH, 0.5), DropConnect(OUTPUTS, WIDTH, 0.9)],
    "V": [DropConnect(INPUTS, WIDTH, 0.5, "V"), DropConnect(INPUTS, WIDTH, 0.9, "V")],
}


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    """X, correlated, so that nothing holds by whitening, and Y."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(INPUTS, INPUTS, generator=generator, dtype=FLOAT)
    X = mix @ torch.randn(INPUTS, SAMPLES, generator=generator, dtype=FLOAT)
    return X, torch.randn(OUTPUTS, SAMPLES, generator=generator, dtype=FLOAT)


def factors(cells: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(cells, OUTPUTS, WIDTH, generator=generator, dtype=FLOAT),
        torch.randn(cells, INPUTS, WIDTH, generator=generator, dtype=FLOAT),
    )


def grid(target: str) -> list[Cell]:
    return [Cell(masks, seed) for seed, masks in enumerate(GRIDS[target])]


def masked_loss(target: str, masks: Tensor, U: Tensor, V: Tensor, X: Tensor, Y: Tensor) -> Tensor:
    """‖Y − (masked network) X‖², (count,), of each of the normalised masks (count, …)."""
    if target == "hidden":
        U = U * masks[:, None]
    elif target == "U":
        U = U * masks
    else:
        V = V * masks
    return (Y - U @ (V.mT @ X)).square().sum((-2, -1))


def exact_loss(masks, U: Tensor, V: Tensor, X: Tensor, Y: Tensor) -> Tensor:
    if masks.target == "hidden":
        return expected_objective(U, V, X, Y, masks.mean, masks.covariance)
    return dropconnect_objective(U, V, X, Y, masks.retain, on=masks.target)


def gradients(loss, U: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
    leaves = U.detach().clone().requires_grad_(), V.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(*leaves), leaves)


def test_a_problem_is_the_moments_of_its_data(data):
    X, Y = data
    problem = Problem.from_data(X, Y)
    torch.testing.assert_close(problem.gram, sum(torch.outer(x, x) for x in X.T))
    torch.testing.assert_close(problem.cross, sum(torch.outer(y, x) for x, y in zip(X.T, Y.T, strict=True)))
    assert problem.energy == pytest.approx(float(torch.linalg.matrix_norm(Y) ** 2))
    single = problem.to("cpu", torch.float32)
    assert (single.gram.dtype, single.cross.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_turned_problem_is_the_same_problem(data, swapped):
    """In other orthogonal bases: cross diagonal, objectives the same, gradients turned. With 5 outputs and 7 inputs, or
    the other way round."""
    problem = Problem.from_data(*(reversed(data) if swapped else data))
    turned, Q, P = problem.turned()
    for turn in (Q, P):
        torch.testing.assert_close(turn.mT @ turn, torch.eye(len(turn), dtype=FLOAT))
    torch.testing.assert_close(Q @ turned.cross @ P.mT, problem.cross)
    torch.testing.assert_close(P @ turned.gram @ P.mT, problem.gram)
    assert torch.equal(turned.cross.diagonal(), turned.signal)
    assert turned.cross.count_nonzero() == turned.signal.count_nonzero() == 5
    assert problem.cross.count_nonzero() == 35

    cells = grid("hidden")
    U, V = reversed(factors(len(cells))) if swapped else factors(len(cells))
    there, here = noise_of(turned, cells, 3), noise_of(problem, cells, 3)
    torch.testing.assert_close(there.objective(Q.mT @ U, P.mT @ V), here.objective(U, V), rtol=1e-12, atol=0)
    for gradients in ("expected_gradient", "sampled_gradient"):
        mine, theirs = getattr(there, gradients)(Q.mT @ U, P.mT @ V), getattr(here, gradients)(U, V)
        for found, expected, turn in zip(mine, theirs, (Q, P), strict=True):
            torch.testing.assert_close(turn @ found, expected, rtol=1e-10, atol=1e-9)
            assert (found - expected).norm() > 0.1 * expected.norm()  # control: not turned
    single = turned.to("cpu", torch.float32)
    assert single.signal.dtype == torch.float32


@pytest.mark.parametrize("target", GRIDS)
def test_the_objective_is_the_theorys(data, target):
    cells = grid(target)
    U, V = factors(len(cells))
    found = noise_of(Problem.from_data(*data), cells).objective(U, V)
    expected = torch.stack([exact_loss(c.masks, u, v, *data) for c, u, v in zip(cells, U, V, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    # Controls: each cell has an objective of its own, and masks on U are not masks on V.
    assert ((found - expected.roll(1)).abs() > 1e-3 * expected).all()
    if target == "V":
        on_U = dropconnect_objective(U, V, *data, torch.tensor([cell.masks.retain for cell in cells]))
        assert ((found - on_U).abs() > 1e-3 * expected).all()


@pytest.mark.parametrize("block_size", [1, 2, 6])
def test_the_objective_of_blocks_is_the_theorys(data, block_size):
    U, V = factors(1)
    found = noise_of(Problem.from_data(*data), [Cell(DropBlock(WIDTH, block_size, 0.4), 0)]).objective(U, V)
    torch.testing.assert_close(found, dropblock_objective(U, V, *data, block_size, 0.4), rtol=1e-12, atol=0)
    other = 3 if block_size != 3 else 1
    assert abs(found / dropblock_objective(U, V, *data, other, 0.4) - 1) > 1e-3


@pytest.mark.parametrize("target", GRIDS)
def test_the_sampled_objective_is_the_loss_of_each_mask(data, target):
    cells = grid(target)
    U, V = factors(len(cells))
    generators = [cell.generator("measurement") for cell in cells]
    found = noise_of(Problem.from_data(*data), cells).sampled_objective(U, V, generators, 9)
    expected = []
    for cell, u, v in zip(cells, U, V, strict=True):
        z = cell.masks.sample(9, cell.generator("measurement"), FLOAT)
        expected.append(masked_loss(target, z / cell.masks.mean, u, v, *data))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-11, atol=0)
    # Control: masks that are not divided by their mean. (The Gaussian's mean is 1.)
    z = cells[0].masks.sample(9, cells[0].generator("measurement"), FLOAT)
    assert (found[0] / masked_loss(target, z, U[0], V[0], *data) - 1).abs().max() > 1e-2


@pytest.mark.parametrize("target", GRIDS)
def test_the_sampled_objective_takes_new_masks_every_time(data, target):
    cells = grid(target)
    noise = noise_of(Problem.from_data(*data), cells)
    U, V = factors(len(cells))
    generators = [cell.generator("measurement") for cell in cells]
    first, second = (noise.sampled_objective(U, V, generators, 8) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("target", GRIDS)
def test_the_expected_gradient_is_autograds(data, target):
    cells = grid(target)
    U, V = factors(len(cells))
    found = noise_of(Problem.from_data(*data), cells).expected_gradient(U, V)
    for i, cell in enumerate(cells):
        expected = gradients(lambda u, v, masks=cell.masks: exact_loss(masks, u, v, *data), U[i], V[i])
        plain = gradients(lambda u, v: (data[1] - u @ v.mT @ data[0]).square().sum(), U[i], V[i])
        for mine, theirs, wrong in zip(found, expected, plain, strict=True):
            torch.testing.assert_close(mine[i], theirs, rtol=1e-11, atol=1e-9)
            assert (mine[i] - wrong).norm() > 1e-2 * theirs.norm()  # control: without the penalty


@pytest.mark.parametrize("target", GRIDS)
def test_the_sampled_gradient_is_autograds(data, target, monkeypatch):
    """Over the steps of several draws ahead: every step has masks of its own."""
    # 4 steps at a time. The Gaussian's stream depends on how it is cut, so the masks are drawn as the engine draws.
    ahead, steps, size = 4, 10, 3
    monkeypatch.setattr(noise_module, "CHUNK_NUMBERS", ahead * WIDTH**2)
    cells = grid(target)
    U, V = factors(len(cells))
    noise = noise_of(Problem.from_data(*data), cells, size)
    found = [noise.sampled_gradient(U, V) for _ in range(steps)]
    cut = ahead * size if target == "hidden" else size
    for i, cell in enumerate(cells):
        generator = cell.generator("masks")
        draws = [cell.masks.sample_normalized(cut, generator, FLOAT) for _ in range(steps)]
        masks = torch.cat(draws)[: steps * size].split(size)
        others = []
        for step in range(steps):
            expected = gradients(lambda u, v, z=masks[step]: masked_loss(target, z, u, v, *data).mean(), U[i], V[i])
            for mine, theirs, before in zip(found[step], expected, found[step - 1], strict=True):
                torch.testing.assert_close(mine[i], theirs, rtol=1e-10, atol=1e-8)
                others.append(float((before[i] - theirs).norm() / theirs.norm()))
        # Control: the gradient of another step. (Blocks have few masks, so that some steps coincide.)
        assert sorted(others)[len(others) // 2] > 0.1


@pytest.mark.parametrize("target", GRIDS)
def test_sampled_gradients_average_to_the_expected_one(data, target):
    cells = grid(target)
    noise = noise_of(Problem.from_data(*data), cells, 50)
    U, V = factors(len(cells))
    draws = [noise.sampled_gradient(U, V) for _ in range(400)]
    plain = noise_of(Problem.from_data(*data), [Cell(Bernoulli(WIDTH, 1 - 1e-12), 0)] * len(cells))
    for gradient in range(2):
        stack = torch.stack([draw[gradient] for draw in draws])
        error = stack.std(0) / len(draws) ** 0.5
        expected = noise.expected_gradient(U, V)[gradient]
        distance = ((stack.mean(0) - expected) / error).square().mean((1, 2))
        assert (distance < 6).all()  # 1 on average; the entries of a cell go together
        wrong = (stack.mean(0) - plain.expected_gradient(U, V)[gradient]) / error
        assert (wrong.square().mean((1, 2)) > 60).all()  # control: the gradient without dropout


def test_amplification_is_the_largest_relative_variance(data):
    problem = Problem.from_data(*data)
    found = noise_of(problem, [Cell(Bernoulli(WIDTH, 0.2), 0), Cell(DropBlock(WIDTH, 3, 0.5), 0)], 8).amplification
    assert found.tolist() == pytest.approx([1 + 4 / 8, 1 + 1 / 8])
    for target in ("U", "V"):
        found = noise_of(problem, grid(target), 2).amplification
        assert found.tolist() == pytest.approx([1 + 1 / 2, 1 + 0.1 / 0.9 / 2])
    overlapping = OverlappingDropBlock(WIDTH, 4, 0.7)
    found = noise_of(problem, [Cell(overlapping, 0)]).amplification
    assert float(found) == pytest.approx(1 + float(overlapping.relative_covariance.diagonal().max()))


@pytest.mark.parametrize("target", GRIDS)
def test_single_precision_agrees_with_double(data, target):
    cells = grid(target)
    problem = Problem.from_data(*data)
    single = problem.to("cpu", torch.float32)
    U, V = factors(len(cells))
    exact, rough = noise_of(problem, cells, 4), noise_of(single, cells, 4)
    torch.testing.assert_close(rough.objective(U.float(), V.float()).double(), exact.objective(U, V), rtol=1e-5, atol=0)
    if target == "hidden":
        cells = cells[:3]  # a Gaussian draws other numbers in another precision
        exact, rough = noise_of(problem, cells, 4), noise_of(single, cells, 4)
    U, V = U[: len(cells)], V[: len(cells)]
    for mine, theirs in zip(rough.sampled_gradient(U.float(), V.float()), exact.sampled_gradient(U, V), strict=True):
        assert mine.dtype == torch.float32
        assert (mine.double() - theirs).norm() < 1e-5 * theirs.norm()


def test_cells_of_different_targets_do_not_mix(data):
    with pytest.raises(ValueError, match=r"one target, got \['U', 'hidden'\]"):
        noise_of(Problem.from_data(*data), [Cell(Bernoulli(WIDTH, 0.5), 0), grid("U")[0]])


def test_streams_differ_by_cell_and_purpose():
    cells = [
        Cell(Bernoulli(6, 0.5), 0),
        Cell(Bernoulli(6, 0.5), 1),
        Cell(Bernoulli(6, 0.6), 0),
        Cell(DropBlock(6, 1, 0.5), 0),
        Cell(DropConnect(6, 6, 0.5, "U"), 0),
        Cell(DropConnect(6, 6, 0.5, "V"), 0),
    ]
    seeds = {cell.generator(purpose).initial_seed() for cell in cells for purpose in ("masks", "measurement")}
    assert len(seeds) == 2 * len(cells)
    assert Cell(Bernoulli(6, 0.5), 0).generator("masks").initial_seed() in seeds
    assert torch.equal(
        torch.rand(3, generator=seeded_generator("key")), torch.rand(3, generator=seeded_generator("key"))
    )
