"""The interval of a mean beside SciPy's Student's t."""

import math

import pytest
from scipy.stats import t

from repro.pipeline.intervals import reach, student


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 19, 50, 101])
def test_quantiles_are_students(freedom):
    assert student(freedom) == pytest.approx(t.ppf(0.975, freedom), rel=1e-9)
    assert student(freedom) != pytest.approx(t.ppf(0.975, freedom + 1), rel=1e-5)


def test_half_an_interval():
    assert reach([1.0, 2.0, 3.0]) == pytest.approx(2.48414, abs=1e-4)
    assert reach([1.0, 2.0]) == pytest.approx(12.7062 / 2, abs=1e-4)
    assert reach([1.0]) == 0.0
    assert math.isnan(reach([1.0, math.nan]))


def test_without_freedom_there_is_none():
    with pytest.raises(ValueError, match="freedom must be at least 1, got 0"):
        student(0)
