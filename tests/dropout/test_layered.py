"""Dropout on all hidden layers as one distribution of masks."""

import pytest
import torch

from repro.dropout import Bernoulli
from repro.dropout.layered import LayeredDropout


def test_it_is_its_layers_side_by_side():
    masks = LayeredDropout((3, 1, 4), 0.3)
    assert masks.target == "layers"
    assert masks.layers == (Bernoulli(3, 0.3), Bernoulli(1, 0.3), Bernoulli(4, 0.3))
    assert masks.shape == (8,)
    torch.testing.assert_close(masks.mean, torch.full((8,), 0.3, dtype=torch.float64))
    torch.testing.assert_close(masks.covariance, 0.21 * torch.eye(8, dtype=torch.float64))
    drawn = masks.sample(20_000, torch.Generator().manual_seed(0), torch.float64)
    assert drawn.shape == (20_000, 8)
    torch.testing.assert_close(drawn.mean(0), masks.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.T.cov(), masks.covariance, rtol=0, atol=0.01)


@pytest.mark.parametrize(("widths", "retain"), [((4, 0), 0.5), ((4,), 1.0), ((4,), 0.0), ((), 0.5)])
def test_mistakes_are_refused(widths, retain):
    with pytest.raises(ValueError, match=r"width|retain"):
        LayeredDropout(widths, retain)
