"""What is said of a Monte-Carlo mean beside its expectation."""

import numpy as np
import pandas as pd
import pytest

from repro.papers.expectation import SHARP, agreement, pooled_slope


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


def sampled(penalty: float, masks: int = 400, comparisons: int = 400) -> pd.DataFrame:
    """Means of skewed losses, whose expectation is a data fit of 1 and a penalty of `penalty`."""
    losses = 1 + penalty * np.random.default_rng(0).exponential(size=(comparisons, masks))
    columns = {"monte_carlo": losses.mean(1), "standard_error": losses.std(1, ddof=1) / masks**0.5, "fit": 1.0}
    return pd.DataFrame(columns).assign(remeasured=False)


def test_the_pooled_slope_sees_what_single_comparisons_do_not():
    curves = sampled(0.5).assign(deterministic=1.5)
    slope, error = pooled_slope(curves)
    assert error == pytest.approx(1 / 400, rel=0.1)  # each an exponential's mean over 400, 400 of them
    assert abs(slope - 1) < 3 * error
    assert agreement(curves)["pooled slope of the penalty"] == slope
    heavier = curves.assign(deterministic=1 + 1.01 * 0.5)
    slope, error = pooled_slope(heavier)
    assert slope < 1 - 2.5 * error
    assert ((heavier.monte_carlo - heavier.deterministic).abs() < 3.5 * heavier.standard_error).all()


def test_weights_do_not_follow_the_sample():
    """Weights 1/error² would: on skewed losses they are off by more than their error, however many comparisons."""
    curves = sampled(0.5, masks=50, comparisons=40_000).assign(deterministic=1.5)
    slope, error = pooled_slope(curves)
    assert error < SHARP
    assert abs(slope - 1) < 3 * error
    weights = curves.standard_error**-2
    assert (weights * (curves.monte_carlo - 1) / 0.5).sum() / weights.sum() < 1 - 10 * error
