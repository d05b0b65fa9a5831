"""Whole units to whole classes: greedy against all ways, and against the closed form as units become many."""

from itertools import product

import pytest
import torch

from repro.theory import apportioned_spectrum, minimum_value, shrink_singular_values

FLOAT = torch.float64
M = torch.tensor([5.0, 3.0, 2.0, 0.7], dtype=FLOAT)


def left(m, a, units, odds):
    """‖m − a‖² + odds Σa²/k, what remains of the objective."""
    return float((m - a).square().sum() + odds * (a.square() / units.clamp_min(1e-300)).sum())


@pytest.mark.parametrize("odds", [0.3, 2.0, 9.0])
@pytest.mark.parametrize(("block_size", "width"), [(1, 5), (2, 6), (3, 6)])
def test_greedy_is_the_best_of_all_ways(block_size, width, odds):
    blocks = width // block_size
    every = torch.tensor([k for k in product(range(blocks + 1), repeat=4) if sum(k) <= width], dtype=FLOAT)
    spectra = M * every / (every + odds)
    values = [left(M, a, k, odds) for a, k in zip(spectra, every, strict=True)]
    best = spectra[min(range(len(values)), key=values.__getitem__)]
    torch.testing.assert_close(apportioned_spectrum(M, block_size, width, odds), best)
    # whole units are a restriction of the norm's variational form: never below the closed form's minimum
    assert min(values) >= float(minimum_value(M, block_size, block_size / width * odds)) - 1e-12


def distance(block_size, width, weight):
    closed = shrink_singular_values(M, block_size, weight)
    return float(
        (apportioned_spectrum(M, block_size, width, weight * width / block_size) - closed).norm() / closed.norm()
    )


@pytest.mark.parametrize("block_size", [1, 2])
def test_many_units_reach_the_closed_form(block_size):
    assert distance(block_size, 4000, 0.4) < 1e-3
    assert distance(block_size, 8, 0.4) > 1e-2  # control


def test_without_a_penalty_nothing_shrinks():
    torch.testing.assert_close(apportioned_spectrum(M, 1, 4, 0.0), M)


@pytest.mark.parametrize(
    ("arguments", "message"), [((1, 0, 1.0), "width"), ((4, 6, 1.0), "width"), ((1, 4, -1.0), "odds")]
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        apportioned_spectrum(M, *arguments)
