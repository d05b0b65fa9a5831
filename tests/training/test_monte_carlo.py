"""The Monte-Carlo measurement with its second look."""

import pytest
import torch

from repro.training.monte_carlo import CONFIRMATION, monte_carlo

FLOAT = torch.float64
SUSPICIOUS = 3.0  # by default


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
    return losses, expected, *monte_carlo(losses, expected, masks)


def test_an_honest_expectation_is_confirmed():
    losses, expected, mean, error, again = measured(5000, bias=0.0)
    beyond = (mean - expected).abs() > SUSPICIOUS * error
    assert 3 <= again.sum() <= 40  # 1 in 370, a little more with an estimated deviation
    assert beyond.sum() <= 1  # control: without the second look it would be as many as `again`
    assert losses.drawn == [100] * (1 + CONFIRMATION)


@pytest.mark.parametrize(("bias", "share"), [(2.5, 0.25), (4.0, 0.8), (6.0, 0.99)])
def test_a_wrong_expectation_is_still_found(bias, share):
    """The second look is the sharper one: what chance excused in the first, it condemns."""
    _, expected, mean, error, again = measured(3000, bias)
    beyond = (mean - expected).abs() > SUSPICIOUS * error
    first = again.double().mean()
    assert beyond.double().mean() > share
    # Four times the masks double the distance: of those measured again most stay, of 2.5 errors too.
    assert beyond[again].double().mean() > 0.95
    assert beyond.double().mean() >= 0.95 * first


def test_the_second_measurement_counts_whichever_way_it_falls():
    masks = 100
    _, _, mean, error, again = measured(2000, bias=2.5, masks=masks)
    replay = Normal(2000)
    draws = [replay(masks) for _ in range(1 + CONFIRMATION)]
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
