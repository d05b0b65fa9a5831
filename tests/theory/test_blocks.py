"""Which noise is that of disjoint blocks, for which the closed forms hold."""

import pytest
import torch

from repro.dropout import Bernoulli, CorrelatedGaussian, DropBlock, OverlappingDropBlock
from repro.theory import dropblock_objective, equal_blocks, expected_objective, minimum_value, retain_probability

FLOAT = torch.float64


@pytest.mark.parametrize("retain", [0.05, 0.5, 0.99])
@pytest.mark.parametrize(("width", "size"), [(1, 1), (8, 1), (8, 4), (8, 8), (12, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT])
def test_blocks_are_found_with_their_weight(width, size, retain, dtype):
    found = equal_blocks(DropBlock(width, size, retain).relative_covariance.to(dtype))
    assert found is not None
    assert found[0] == size
    assert found[1] == pytest.approx((1 - retain) / retain, rel=1e-6)


@pytest.mark.parametrize(
    "masks",
    [Bernoulli(6, 0.3), CorrelatedGaussian(6, 0.3, 0.0), OverlappingDropBlock(6, 1, 0.3), DropBlock(6, 1, 0.3)],
    ids=repr,
)
def test_independent_units_of_one_variance_are_dropout(masks):
    size, weight = equal_blocks(masks.relative_covariance)
    assert (size, weight) == (1, pytest.approx(0.7 / 0.3))


def test_one_coin_for_all_units_is_one_block():
    assert equal_blocks(OverlappingDropBlock(5, 5, 0.3).relative_covariance) == (5, pytest.approx(0.7 / 0.3))


BLOCKS = DropBlock(6, 3, 0.5).relative_covariance
OTHERS = {
    "overlapping": OverlappingDropBlock(6, 3, 0.5).relative_covariance,
    "a size that does not divide": torch.block_diag(torch.ones(4, 4), torch.ones(2, 2)).double(),
    "blocks of other sizes": torch.block_diag(torch.ones(2, 2), torch.ones(4, 4)).double(),
    "blocks of other weights": torch.block_diag(torch.ones(3, 3), 2 * torch.ones(3, 3)).double(),
    "correlated": CorrelatedGaussian(6, 0.5, 0.8).relative_covariance,
    "correlated a little": CorrelatedGaussian(6, 0.5, 1e-4).relative_covariance,
    "units of one block apart": BLOCKS[[0, 3, 1, 4, 2, 5]][:, [0, 3, 1, 4, 2, 5]],
    "blocks that shun each other": BLOCKS - 0.2,
    "nothing": torch.zeros(6, 6, dtype=FLOAT),
    "negative": -BLOCKS,
}


@pytest.mark.parametrize("covariance", OTHERS.values(), ids=list(OTHERS))
def test_other_noise_has_no_blocks(covariance):
    assert equal_blocks(covariance) is None


def test_its_objective_and_minimum_are_dropblocks():
    generator = torch.Generator().manual_seed(0)
    U, V, X, Y = (torch.randn(*s, generator=generator, dtype=FLOAT) for s in ((3, 8), (4, 8), (4, 9), (3, 9)))
    p, masks = 0.7, DropBlock(8, 2, retain_probability(0.7, 8, 2))
    size, weight = equal_blocks(masks.relative_covariance)
    exact = expected_objective(U, V, X, Y, masks.mean, masks.covariance)
    torch.testing.assert_close(dropblock_objective(U, V, X, Y, size, 1 / (1 + weight)), exact, rtol=1e-12, atol=0)
    m = torch.tensor([3.0, 2.0, 1.0], dtype=FLOAT)
    found = minimum_value(m, size, weight * size / 8)
    torch.testing.assert_close(found, minimum_value(m, 2, (1 - p) / p), rtol=1e-12, atol=0)
    assert abs(found / minimum_value(m, size, weight) - 1) > 1e-3  # control: the penalty is of the width


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (torch.ones(3), r"must have shape \(width, width\), width >= 1, got \(3,\)"),
        (torch.ones(3, 4), r"got \(3, 4\)"),
        (torch.ones(2, 3, 3), r"got \(2, 3, 3\)"),
        (torch.ones(0, 0), r"got \(0, 0\)"),
        (torch.full((2, 2), torch.nan), "relative_covariance must be finite"),
        (torch.ones(2, 2, dtype=torch.float16), "relative_covariance must be float32 or float64"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance, message):
    with pytest.raises(ValueError, match=message):
        equal_blocks(covariance)
