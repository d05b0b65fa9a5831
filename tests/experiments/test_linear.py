"""The grid, and the Monte-Carlo measurement with its second look."""

import pandas as pd
import pytest
import torch

from repro import composition
from repro.dropout import Bernoulli, CorrelatedGaussian, DropBlock, DropConnect, OverlappingDropBlock
from repro.experiments import linear
from repro.theory import retain_probability

FLOAT = torch.float64


def config(*overrides: str):
    return composition.load(["experiment=any_dropout", "scale=smoke", "model.width=8", *overrides])


def test_the_grid_is_the_product_of_what_is_listed():
    cfg = config("dropout.scheme=dropblock", "dropout.block_size=[1,4]", "dropout.retain=[0.5,0.8]", "seed=[0,3]")
    cells, table = linear.grid(cfg)
    assert len(cells) == len(table) == 8
    assert list(table.cell) == list(range(8))
    assert not table.drop(columns="cell").duplicated().any()
    for cell, row in zip(cells, table.itertuples(), strict=True):
        assert cell.masks == DropBlock(8, row.block_size, row.retain)
        assert cell.seed == row.seed
        assert (row.scheme, row.width) == ("dropblock", 8)
    assert set(table.retain) == {0.5, 0.8}
    assert "p" not in table


def test_p_scales_with_the_width():
    cfg = config("dropout.scheme=dropblock", "dropout.block_size=[1,4]", "dropout.retain=null", "dropout.p=[0.5,0.9]")
    cells, table = linear.grid(cfg)
    assert list(table.p) == [0.5, 0.9, 0.5, 0.9]
    for cell, row in zip(cells, table.itertuples(), strict=True):
        assert cell.masks.retain == row.retain == retain_probability(row.p, 8, row.block_size)
    assert table.retain[0] != table.p[0]


def test_every_scheme_has_its_distribution():
    cfg = config("dropout.retain=0.5", "dropout.correlation=0.3", "dropout.block_size=[2,4]")
    cells, table = linear.grid(cfg)
    assert [cell.masks for cell in cells] == [
        Bernoulli(8, 0.5),
        DropBlock(8, 2, 0.5),
        DropBlock(8, 4, 0.5),
        OverlappingDropBlock(8, 2, 0.5),
        OverlappingDropBlock(8, 4, 0.5),
        CorrelatedGaussian(8, 0.5, 0.3),
    ]
    assert list(table.block_size) == [1, 2, 4, 2, 4, 1]
    for factor in "UV":
        (cell,), _ = linear.grid(config(f"dropout.scheme=dropconnect_{factor}", "dropout.retain=0.5"), rows=5)
        assert cell.masks == DropConnect(5, 8, 0.5, factor)


class Normal:
    """A stochastic objective of known mean 0 and deviation 1 that remembers how many were drawn."""

    def __init__(self, cells: int):
        self.cells, self.drawn = cells, []
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, count):
        self.drawn.append(count)
        return torch.randn(self.cells, count, generator=self.generator, dtype=FLOAT)


def measured(cells: int, bias: float, masks: int = 100):
    """monte_carlo with an `expected` that is `bias` standard errors (of one measurement) off."""
    losses = Normal(cells)
    expected = torch.full((cells,), bias / masks**0.5, dtype=FLOAT)
    return losses, expected, *linear.monte_carlo(losses, expected, masks)


def test_an_honest_expectation_is_confirmed():
    losses, expected, mean, error, again = measured(5000, bias=0.0)
    beyond = (mean - expected).abs() > linear.SUSPICIOUS * error
    assert 3 <= again.sum() <= 40  # 1 in 370, a little more with an estimated deviation
    assert beyond.sum() <= 1  # control: without the second look it would be as many as `again`
    assert losses.drawn == [100] * (1 + linear.CONFIRMATION)


@pytest.mark.parametrize(("bias", "share"), [(2.5, 0.25), (4.0, 0.8), (6.0, 0.99)])
def test_a_wrong_expectation_is_still_found(bias, share):
    """The second look is the sharper one: what chance excused in the first, it condemns."""
    _, expected, mean, error, again = measured(3000, bias)
    beyond = (mean - expected).abs() > linear.SUSPICIOUS * error
    first = again.double().mean()
    assert beyond.double().mean() > share
    # Four times the masks double the distance: of those measured again most stay, of 2.5 errors too.
    assert beyond[again].double().mean() > 0.95
    assert beyond.double().mean() >= 0.95 * first


def test_the_second_measurement_counts_whichever_way_it_falls():
    masks = 100
    _, _, mean, error, again = measured(2000, bias=2.5, masks=masks)
    replay = Normal(2000)
    draws = [replay(masks) for _ in range(1 + linear.CONFIRMATION)]
    second = torch.cat(draws[1:], 1)
    torch.testing.assert_close(mean[~again], draws[0].mean(-1)[~again])
    torch.testing.assert_close(mean[again], second.mean(-1)[again])
    torch.testing.assert_close(error[again], second.std(-1)[again] / (4 * masks) ** 0.5, rtol=0.02, atol=0)
    torch.testing.assert_close(error[~again], draws[0].std(-1)[~again] / masks**0.5)
    assert (mean[again] - draws[0].mean(-1)[again]).abs().min() > 0  # the first value is not kept, nor averaged in
    assert not torch.allclose(mean[again], torch.cat(draws, 1).mean(-1)[again])


def test_nothing_suspicious_nothing_drawn_again():
    losses, *_, again = measured(1, bias=0.0)
    assert losses.drawn == [100]
    assert not again.any()


def test_agreement_sums_up():
    curves = pd.DataFrame(
        {
            "monte_carlo": [1.0, 2.0, 3.3],
            "deterministic": [1.0, 2.2, 3.0],
            "standard_error": [0.1, 0.1, 0.3],
            "remeasured": [False, True, False],
        }
    )
    assert linear.agreement(curves) == pytest.approx(
        {
            "comparisons": 3,
            "largest distance in standard errors": 2,
            "mean squared distance in standard errors": 5 / 3,
            "largest relative standard error": 0.1,
            "measured twice": 1,
        }
    )
