"""Effective rank: known values, its bounds, and its errors."""

import math

import pytest
import torch

from repro.theory import effective_rank

FLOAT = torch.float64


def test_known_values():
    spectra = torch.tensor([[5.0, 0, 0], [2, 2, 0], [1, 1, 1], [0, 0, 0], [3, 1, 0]], dtype=FLOAT)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    expected = torch.tensor([1, 2, 3, 0, math.exp(entropy)], dtype=FLOAT)
    torch.testing.assert_close(effective_rank(spectra), expected, rtol=1e-14, atol=0)


def test_scale_does_not_count_and_bounds_hold():
    spectrum = torch.rand(50, 7, generator=torch.Generator().manual_seed(0), dtype=FLOAT)
    rank = effective_rank(spectrum)
    for scale in (1e-300, 1e300):
        torch.testing.assert_close(effective_rank(spectrum * scale), rank, rtol=1e-13, atol=0)
    assert ((rank > 1) & (rank < 7)).all()


def test_gradient_and_dtype():
    spectrum = torch.tensor([3.0, 2.0, 0.5], dtype=FLOAT, requires_grad=True)
    assert torch.autograd.gradcheck(effective_rank, spectrum)
    assert effective_rank(spectrum.float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("spectrum", "message"),
    [
        (torch.tensor([1.0, -0.5]), r"singular_values must be in \[0, inf\), got -0\.5"),
        (torch.tensor([1.0, math.nan]), r"singular_values must be finite, got 1 NaN or infinite of 2"),
        (torch.tensor([math.inf, math.inf]), r"singular_values must be finite, got 2"),
        (torch.zeros(2, 0), r"singular_values must have shape"),
    ],
)
def test_errors_name_the_argument(spectrum, message):
    with pytest.raises(ValueError, match=message):
        effective_rank(spectrum)


def test_an_empty_batch_has_no_ranks():
    assert effective_rank(torch.zeros(0, 5)).shape == (0,)
