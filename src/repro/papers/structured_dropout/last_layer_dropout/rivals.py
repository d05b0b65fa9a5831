"""What other theories say of a network's spectrum, and how near to them it is."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

SIZES = (1, 2, 4, 8)
WEIGHTS = (0.9, 1.1)
NORMS = (
    *(f"r = {size}" for size in SIZES),
    "Frobenius",
    "Frobenius, r = d",
    "Frobenius at λ",
    "nuclear at λ",
    "no dropout",
)
RIVALS = (*NORMS, *(f"weight × {factor:g}" for factor in WEIGHTS))
"""Other theories, each with a closed form of its own: another block size with the weight that would be its own, up to
one block of all units; the true weight on another norm; none; the true norm with another weight."""

PRECISION = 0.01
"""What training may leave, of ‖a‖: a third of the least distance, .031, at which a weight 10 % off has its closed form
on the grid r = 1, 8 and θ = .1 … .3, so that such a weight could be told from the true one."""


class Distances(NamedTuple):
    """Of each network's spectrum, in units of ‖a‖: `own` (n,) from its closed form a, `rivals` (n, RIVALS) from those
    of other theories; `apart` (n, RIVALS), how far these are from a; `off`, what a network may be from a: the
    coarsest network's of all, so that fewer rivals are asked and none is asked too early."""

    own: np.ndarray
    rivals: np.ndarray
    apart: np.ndarray
    off: float


def distances(cells: pd.DataFrame, arrays: Mapping[str, np.ndarray]) -> Distances:
    rows = cells.cell.to_numpy()
    closed, rivals, measured = (arrays[name][rows] for name in ("closed_form", "rivals", "singular_values"))
    unit = np.linalg.norm(closed, axis=1)
    return Distances(
        own=np.linalg.norm(measured - closed, axis=1) / unit,
        rivals=np.linalg.norm(measured[:, None] - rivals, axis=2) / unit[:, None],
        apart=np.linalg.norm(closed[:, None] - rivals, axis=2) / unit[:, None],
        off=PRECISION + float(cells.resolution.max()),
    )
