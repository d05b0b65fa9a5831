"""What is said of a Monte-Carlo mean beside its expectation."""

import pandas as pd
import pytest

from repro.papers.expectation import agreement


def test_agreement_sums_up():
    curves = pd.DataFrame(
        {
            "monte_carlo": [1.0, 2.0, 3.3],
            "deterministic": [1.0, 2.2, 3.0],
            "standard_error": [0.1, 0.1, 0.3],
            "remeasured": [False, True, False],
        }
    )
    assert agreement(curves) == pytest.approx(
        {
            "comparisons": 3,
            "largest distance in standard errors": 2,
            "mean squared distance in standard errors": 5 / 3,
            "largest relative standard error": 0.1,
            "measured twice": 1,
        }
    )
