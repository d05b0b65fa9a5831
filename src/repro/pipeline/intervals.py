"""The 95 % confidence interval of a mean, by Student's t. Without SciPy, for which figures do not wait."""

from collections.abc import Sequence
from functools import cache
from math import atan, cos, pi, sin, sqrt

import numpy as np

CONFIDENCE = 0.95


def reach(values: Sequence[float] | np.ndarray) -> float:
    """Half the interval of the mean of independent `values`; 0 for a single one, NaN where one is."""
    n = len(values)
    return student(n - 1) * float(np.std(values, ddof=1)) / n**0.5 if n > 1 else 0.0


@cache
def student(freedom: int) -> float:
    """The t that |T| stays below with probability `CONFIDENCE`, by bisection.

    Raises:
        ValueError: no degree of freedom.
    """
    if freedom < 1:
        raise ValueError(f"freedom must be at least 1, got {freedom}")
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < CONFIDENCE else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """P(|T| ≤ t), a finite sum (Abramowitz, Stegun, 26.7.3 and 26.7.4)."""
    angle = atan(t / sqrt(freedom))
    odd = freedom % 2
    term, total = (cos(angle) if odd else 1.0), 0.0
    for k in range(odd, freedom - 1, 2):
        total += term
        term *= cos(angle) ** 2 * (k + 1) / (k + 2)
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
