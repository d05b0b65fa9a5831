"""Increments and removal times, against formulas and simulations written apart."""

import math

import numpy as np
import pytest
import torch

from repro.pruning import increment, removal_times, target


@pytest.mark.parametrize("threshold", [1, 7, 45, 450, 12.5])
@pytest.mark.parametrize("step", [2.5e-4, 3.0])
@pytest.mark.parametrize("u", [0.05, 0.25, 0.6])
def test_the_three_values_of_the_increment(threshold, step, u):
    turn = threshold * math.log(1 / u) / math.log(2 / u)
    found = increment([0, turn, threshold, threshold + 1], threshold, step, u)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found[:3], [step, u * step, 0], rtol=0, atol=1e-9 * step)
    assert found[3] < 0
    distance = np.linspace(0, turn, 50)  # symmetric about the turn
    below, above = increment(turn - distance, threshold, step, u), increment(turn + distance, threshold, step, u)
    np.testing.assert_allclose(below + above, 2 * u * step, rtol=0, atol=1e-9 * step)
    assert (increment(torch.linspace(0, 2 * threshold, 200), threshold, step, u).diff() < 0).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([0.0], 0, 1.0), r"threshold must be in \(0, inf\), got 0"),
        (([0.0], -1, 1.0), r"threshold must be in \[0, inf\), got -1"),
        (([0.0], 3, 0.0), r"step must be in \(0, inf\), got 0"),
        (([0.0], 3, 1.0, 1.0), r"u must be in \(0, 1\), ends excluded, got 1"),
        (([-1.0], 3, 1.0), r"ranks must be in \[0, inf\), got -1"),
        (([math.nan], 3, 1.0), "ranks must be finite"),
    ],
)
def test_what_an_increment_refuses(given, message):
    with pytest.raises(ValueError, match=message) as error:
        increment(*given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("groups", "ratio", "expected"), [(100, 0.07, 7), (50, 0.9, 45), (25, 0.9, 23), (8, 0.98, 8), (500, 0.001, 1)]
)
def test_counts(groups, ratio, expected):
    assert target(groups, ratio) == expected


@pytest.mark.parametrize("given", [(0, 0.5), (5, 0.0), (5, 1.1)])
def test_counts_that_are_none(given):
    with pytest.raises(ValueError, match=r"must be (at least 1|in \(0, 1\])"):
        target(*given)


def simulated(n, ratio, step, ceiling, u=0.25, symmetric=True):
    """One update after another, in plain floats."""
    left, penalties, times, now = math.ceil(round(ratio * n, 9)), [0.0] * n, [], 0
    while left:
        now += 1
        alpha, turn = math.log(2 / u) / left, left * math.log(1 / u) / math.log(2 / u)
        for j in range(len(penalties)):
            mirrored = 2 * u * step - step * math.exp(min(700.0, -alpha * (2 * turn - j)))
            gain = step * math.exp(-alpha * j) if j < turn or not symmetric else mirrored
            penalties[j] = max(penalties[j] + gain, 0.0)
        gone = sum(value >= ceiling - 1e-12 for value in penalties)
        gone = min(gone, left)
        penalties, left = penalties[gone:], left - gone
        times += [now] * gone
    return times


SETTINGS = [
    (25, 0.9, 2.5e-4, 0.05, 0.25),
    (50, 0.5, 1.0, 37.3, 0.25),
    (64, 0.95, 0.013, 0.7, 0.1),
    (10, 1.0, 1e-3, 2e-3, 0.25),  # several at a time
    (100, 0.07, 0.3, 50.0, 0.4),
    (5, 0.2, 2.0, 1.0, 0.25),  # a step beyond the ceiling
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_removal_times_are_those_of_a_simulation(setting):
    found = removal_times(*setting).tolist()
    assert found == simulated(*setting)
    assert len(found) == target(*setting[:2])
    assert found[0] == math.ceil(round(setting[3] / setting[2], 6))


def test_another_increment_has_other_times():
    setting = SETTINGS[0]
    assert removal_times(*setting).tolist() != simulated(*setting, symmetric=False)


@pytest.mark.parametrize("given", [(10, 0.5, 0.0, 1.0), (10, 0.5, 1.0, 0.0), (10, 0.0, 1.0, 1.0)])
def test_what_removal_times_refuse(given):
    with pytest.raises(ValueError, match="must be in"):
        removal_times(*given)
