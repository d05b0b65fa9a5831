"""How many blocks carry the closed form: against the minimum over factors of networks that are just narrower."""

import pytest
import torch

from repro import theory
from repro.dropout import DropBlock
from repro.training.sweep.solver import solve

SPECTRUM = torch.tensor([1.0, 0.9, 0.75, 0.5, 0.45, 0.33, 0.2, 0.18, 0.0, 0.0], dtype=torch.float64)


def gap(blocks: int, block_size: int, p: float) -> float:
    """Of the least objective of a network with so many blocks to the closed form, relative."""
    width, penalty = blocks * block_size, (1 - p) / p
    masks = DropBlock(width, block_size, theory.retain_probability(p, width, block_size))
    found = min(solve(SPECTRUM, 0.0, masks, seed).objective for seed in range(3))
    return found / float(theory.minimum_value(SPECTRUM, block_size, penalty)) - 1


@pytest.mark.parametrize("p", [0.3, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("block_size", [1, 2, 3, 4])
def test_networks_reach_the_closed_form_from_there_on(block_size, p):
    needed = theory.blocks_needed(SPECTRUM, block_size, (1 - p) / p)
    assert abs(gap(needed, block_size, p)) < 1e-10
    assert needed == 1 or gap(needed - 1, block_size, p) > 1e-7


def test_single_units_need_the_rank():
    for p in (0.3, 0.6, 0.9, 0.99):
        penalty = (1 - p) / p
        rank = int((theory.shrink_singular_values(SPECTRUM, 1, penalty) > 1e-9).sum())
        assert theory.blocks_needed(SPECTRUM, 1, penalty) == rank


def test_one_block_carries_what_is_saturated_alone():
    assert theory.blocks_needed(SPECTRUM, 8, 0.5) == 1
    assert theory.blocks_needed(SPECTRUM[:3], 3, 0.1) == 1
    assert theory.blocks_needed(torch.ones(4, dtype=torch.float64), 2, 1.0) == 2  # I is the sum of two projections
    assert theory.blocks_needed(torch.ones(3, dtype=torch.float64), 2, 1.0) == 3  # but not of two in three dimensions
