"""The onset of rank 1 of the diagonal problem, against its definition; an experiment asks the full network."""

import math

import numpy as np
import pytest
import torch

from repro import theory
from repro.theory import onset

SPECTRUM = torch.tensor([1.0, 0.6, 0.35, 0.2], dtype=torch.float64)


def rank_one(rate: float, layers: int) -> float:
    m = SPECTRUM.numpy()
    return float(m @ m - m[0] ** 2 / (1 + rate) ** layers)


def lowest(rate: float, layers: int) -> float:
    """Of random starts of the diagonal problem."""
    draw = np.random.default_rng(0)
    starts = [draw.uniform(0.3, 1, (layers + 1, len(SPECTRUM))) for _ in range(20)]
    return min(onset._minimum(start, SPECTRUM.numpy(), rate)[1] for start in starts)


def test_one_hidden_layer_is_the_bounds():
    assert theory.collapse_onset(SPECTRUM, 1) == (float(theory.critical_penalty(SPECTRUM)), 0.0)


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_a_higher_rank_pays_before_it_and_no_longer_after(layers):
    found = theory.collapse_onset(SPECTRUM, layers)
    assert lowest(0.99 * found.rate, layers) < rank_one(0.99 * found.rate, layers) * (1 - 1e-5)
    assert lowest(1.01 * found.rate, layers) >= rank_one(1.01 * found.rate, layers) * (1 - 1e-12)
    certain = math.expm1(math.log1p(float(theory.critical_penalty(SPECTRUM))) / layers)
    assert found.rate < 0.9 * certain
    assert 0.05 < found.ratio < 0.6


def test_the_unit_of_the_target_does_not_matter():
    once, twice = (theory.collapse_onset(scale * SPECTRUM, 2) for scale in (1.0, 3.0))
    assert twice == pytest.approx(once, rel=1e-5)


def test_the_diagonal_problem_is_a_network():
    """Its value is the deterministic objective of layers in rotated bases that give all units one second moment."""
    width, rate, layers = 4, 0.3, 2
    draw = np.random.default_rng(1)
    point, value = onset._minimum(draw.uniform(0.3, 1, (layers + 1, 4)), SPECTRUM.numpy(), rate)
    hadamard = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64) / 2
    first, second, last = (torch.from_numpy(s).diag() for s in point)
    weights = [hadamard @ first, hadamard @ second @ hadamard.mT, last @ hadamard.mT]
    retain, X = 1 / (1 + width * rate), torch.eye(4, dtype=torch.float64)
    fit = (SPECTRUM.diag() - weights[2] @ weights[1] @ weights[0]).square().sum()
    assert float(fit + theory.deep_dropout_regularizer(weights, X, retain)) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("spectrum", [[1.0], [1.0, 0.0], [1.0, 1.0]])
def test_without_a_second_value_or_a_first_there_is_none(spectrum):
    found = theory.collapse_onset(torch.tensor(spectrum, dtype=torch.float64), 2)
    assert math.isnan(found.rate)
    assert math.isnan(found.ratio)
