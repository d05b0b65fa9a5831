"""L-BFGS on the deterministic objective against the closed form, and its gap where the network is too narrow."""

import pytest
import torch

from repro.dropout import Bernoulli, DropBlock
from repro.theory import (
    dropblock_objective,
    global_minimizer,
    minimum_value,
    retain_probability,
    shrink_singular_values,
    target_spectrum,
)
from repro.training.sweep.solver import solve

FLOAT = torch.float64


def spectrum(seed: int, n: int = 6) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=FLOAT).sort(descending=True).values


@pytest.mark.parametrize("p", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(("block_size", "width"), [(1, 12), (2, 12), (3, 18), (6, 24)])
def test_it_reaches_the_closed_form(block_size, width, p):
    m = spectrum(seed=block_size)
    masks = DropBlock(width, block_size, retain_probability(p, width, block_size))
    found = solve(m, 0.25, masks, seed=1)
    penalty = (1 - p) / p
    closed_form = 0.25 + float(minimum_value(m, block_size, penalty))
    assert found.objective == pytest.approx(closed_form, rel=1e-10)
    assert found.objective >= closed_form * (1 - 1e-13)
    # The prediction is unique, so that its spectrum is reached too, to the root of the objective's precision.
    torch.testing.assert_close(found.singular_values, shrink_singular_values(m, block_size, penalty), rtol=0, atol=1e-5)
    # Control: the closed forms of other block sizes and of another p.
    other = [(r, p) for r in (1, 2, 3, 6) if r != block_size] + [(block_size, p + 0.05)]
    for r, rate in other:
        wrong = 0.25 + float(minimum_value(m, r, (1 - rate) / rate))
        assert abs(found.objective / wrong - 1) > 1e-6


def test_the_blocks_are_balanced():
    width, block_size, p = 12, 3, 0.7
    found = solve(spectrum(0), 0.0, DropBlock(width, block_size, retain_probability(p, width, block_size)), seed=0)
    U, V = found.block_products
    blocks = (U * V).view(width // block_size, block_size, width // block_size, block_size).sum((1, 3)).diagonal()
    assert (blocks / blocks.mean() - 1).abs().max() < 1e-5


def test_its_minimum_is_that_of_the_data():
    """From X and Y to spectrum and back: X with fewer dimensions than rows, and Y partly out of its reach."""
    generator = torch.Generator().manual_seed(2)
    X = torch.randn(6, 3, generator=generator, dtype=FLOAT) @ torch.randn(3, 15, generator=generator, dtype=FLOAT)
    Y = torch.randn(4, 15, generator=generator, dtype=FLOAT)
    m = target_spectrum(Y, X)
    residual = float(Y.square().sum() - m.square().sum())
    found = solve(m, residual, DropBlock(8, 2, retain_probability(0.6, 8, 2)), seed=0)
    expected = global_minimizer(Y, X, 2, 0.6)
    assert found.objective == pytest.approx(float(expected.objective), rel=1e-10)
    assert residual > 0.1 * found.objective  # so that it would be missed
    torch.testing.assert_close(found.singular_values, expected.singular_values, rtol=0, atol=1e-5)


def test_no_other_point_lies_below():
    m, width, block_size = spectrum(3), 12, 2
    retain = retain_probability(0.5, width, block_size)
    found = solve(m, 0.0, DropBlock(width, block_size, retain), seed=0).objective
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(2, 500, 6, width, generator=generator, dtype=FLOAT)
    scales = torch.logspace(-2, 0.5, 500, dtype=FLOAT)[:, None, None]
    tried = dropblock_objective(*(factors * scales), torch.eye(6, dtype=FLOAT), m.diag(), block_size, retain)
    assert (tried > found).all()


def paper_gap(block_size: int, width: int, starts: int = 2) -> float:
    """The relative gap at `width` for a target of rank 8 on 20 inputs and outputs, p = 0.8."""
    generator = torch.Generator().manual_seed(0)
    X, U, V = (torch.randn(20, n, generator=generator, dtype=FLOAT) for n in (200, 8, 8))
    m = target_spectrum(U @ V.mT @ X, X)
    masks = DropBlock(width, block_size, retain_probability(0.8, width, block_size))
    best = min(solve(m, 0.0, masks, seed).objective for seed in range(starts))
    return best / float(minimum_value(m, block_size, 0.25)) - 1


@pytest.mark.parametrize(("block_size", "width"), [(1, 6), (2, 8), (4, 16)])
def test_wide_networks_are_tight(block_size, width):
    assert abs(paper_gap(block_size, width)) < 1e-10


@pytest.mark.parametrize(("block_size", "width", "gap"), [(1, 3, 1e-2), (2, 4, 1e-2), (4, 4, 0.1)])
def test_narrow_networks_stay_above(block_size, width, gap):
    assert paper_gap(block_size, width) > gap


def test_one_seed_one_answer_and_threads_are_given_back():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, again = (solve(spectrum(0), 0.0, Bernoulli(6, 0.5), seed=3) for _ in range(2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert first.objective == again.objective
    assert torch.equal(first.block_products, again.block_products)
    other = solve(spectrum(0), 0.0, Bernoulli(6, 0.5), seed=4)
    assert not torch.equal(first.block_products, other.block_products)
    assert other.objective == pytest.approx(first.objective, rel=1e-10)
