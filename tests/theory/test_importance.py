"""Schedules of importance weights, exact at their corners and between."""

import pytest
import torch

from repro.theory import importance

EPOCHS = torch.tensor([0, 99, 100, 300, 499, 500, 700, 999], dtype=torch.float64)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("constant", lambda e: 2.0),
        ("linear", lambda e: 2.0 * min(1.0, max(0.0, (500 - e) / 400))),
        ("abrupt", lambda e: 2.0 if e < 500 else 0.0),
        ("exponential", lambda e: 2.0 * 2.718281828459045 ** -(max(0.0, e - 100) / 400)),
    ],
)
def test_values(shape, expected):
    found = importance(EPOCHS / 1000, shape, 2.0, 0.1, 0.5)
    wanted = torch.tensor([expected(e) for e in EPOCHS.tolist()], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


def test_the_authors_schedules():
    """λ_in is 1 to epoch 100 and 0 from 500 on, λ_out from 700 on, of 1,000."""
    for end, halfway in ((500, 300), (700, 400)):
        epochs = torch.tensor([100.0, halfway, end], dtype=torch.float64)
        found = importance(epochs / 1000, "linear", 1.0, 0.1, end / 1000)
        torch.testing.assert_close(found, torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("begin", "end"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5)])
def test_ends_out_of_order_are_refused(begin, end):
    with pytest.raises(ValueError, match="begin and end must be 0 <= begin < end"):
        importance(EPOCHS, "linear", 1.0, begin, end)


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match="shape must be one of constant, linear, abrupt, exponential, got cosine"):
        importance(EPOCHS, "cosine", 1.0, 0.1, 0.5)
