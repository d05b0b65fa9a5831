"""How dropout lowers the rank of what a deep linear network learns, against its rate, depth and width.

The objective is never below min_A ‖Y − A‖² + ν‖A‖²_*, whose minimiser shrinks the singular values of YX⁺X. With one
hidden layer that is the optimum; with more it is where that minimiser has rank 1, from ν = m_2/(m_1 − m_2) on: there
collapse is certain. L-BFGS on the deterministic objective says where it happens, SGD on the stochastic one follows.
"""

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from repro.papers.deep_linear_dropout import settings
from repro.pipeline.claims import Claim
from repro.pipeline.settings import Count, Section
from repro.pipeline.store import Record

# What is found of each depth and width about the rate of collapse, an array `collapse_…` each.
COLLAPSE = ["depth", "width", "predicted", "measured", "above"]


class Options(Section):
    """`starts`: random starts of L-BFGS, of which the best counts. `halvings`: of the bracket, on a logarithmic scale,
    around the rate at which the optimum's rank becomes 1."""

    starts: Count = 2
    halvings: Annotated[int, Field(ge=0)] = 8


class Config(settings.Config):
    options: Options


def single_layer_difference(table: pd.DataFrame) -> pd.Series:
    """Of the optima that the solvers for deep and for single hidden layers find at depth 2, relative."""
    return (table.solver_objective / table.single_layer_objective - 1).abs().dropna()


# ---------------------------------------------------------------------- claims


def _certain(record: Record) -> pd.DataFrame:
    """The cells of which theory says that their optimum has rank 1."""
    cells = record.cells
    return cells[cells.retain <= cells.critical_retain]


def _rank_one_error(record: Record) -> pd.Series:
    cells = _certain(record)
    return np.maximum(cells.solver_gap.abs(), cells.singular_value_error).groupby(cells.seed).max()


def _certain_rank(record: Record) -> pd.Series:
    cells = _certain(record)
    return cells.effective_rank.groupby(cells.seed).max()


def _depth_two(record: Record) -> pd.Series:
    cells = record.cells[record.cells.depth == 2]
    return single_layer_difference(cells).groupby(cells.seed).max()


def _for_every_seed(record: Record, value: float) -> pd.Series:
    """A number that no seed of SGD has a part in."""
    return pd.Series(value, index=record.config["seed"])


def _sharp_rate(record: Record) -> pd.Series:
    """By how much the predicted θ lies outside of the measured bracket, relative; negative inside."""
    depth, predicted, measured, above = (
        record.arrays[f"collapse_{name}"] for name in ("depth", "predicted", "measured", "above")
    )
    outside = np.maximum(measured / predicted - 1, predicted / above - 1)[depth == 2]
    return _for_every_seed(record, outside.max()) if len(outside) else pd.Series(dtype=float)


def _certain_rate(record: Record) -> pd.Series:
    """The smallest above / predicted of the deeper networks."""
    depth, predicted, above = (record.arrays[f"collapse_{name}"] for name in ("depth", "predicted", "above"))
    ratio = (above / predicted)[depth > 2]
    return _for_every_seed(record, ratio.min()) if len(ratio) else pd.Series(dtype=float)


SOURCE = "Mianjy and Arora (2019); paper section 6"

CLAIMS = (
    Claim(
        id="rank_one_closed_form",
        statement="Where dropout is strong enough, the global optimum is the closed form of rank 1, at any depth.",
        source=SOURCE,
        quantity="largest relative error of L-BFGS's objective and singular values",
        high=1e-8,
        because="L-BFGS runs to machine precision; singular values know the root of what the objective knows",
        measure=_rank_one_error,
        figure="collapse",
    ),
    Claim(
        id="collapse_is_certain",
        statement="Training with that much dropout collapses to rank 1.",
        source=SOURCE,
        quantity="largest effective rank that SGD reaches at a rate at which theory says rank 1",
        high=1.05,
        because="SGD keeps a little noise in directions that have died; two that live have an effective rank above 1.2",
        measure=_certain_rank,
        scales=("cpu", "gpu"),
        figure="collapse",
    ),
    Claim(
        id="collapse_rate",
        statement="With one hidden layer, rank 1 begins at exactly the predicted rate.",
        source=SOURCE,
        quantity="distance of the predicted θ from the bracket between the largest measured θ of rank 1 and the next "
        "one tried, relative; negative inside",
        high=0.005,
        because="a second singular value below a thousandth of the first counts as none: it moves the rate by as much",
        measure=_sharp_rate,
        figure="rate",
    ),
    Claim(
        id="deeper_collapses_sooner",
        statement="Deeper networks have collapsed where theory says that they must, and no later.",
        source=f"{SOURCE}; that they collapse sooner is measured here",
        quantity="smallest measured over predicted θ of collapse of networks with two hidden layers or more",
        low=0.995,
        because="the theory's rate is sufficient for them, not necessary; tolerance as for one hidden layer",
        measure=_certain_rate,
        figure="rate",
    ),
    Claim(
        id="depth_two",
        statement="One hidden layer is the single-hidden-layer theory, exactly.",
        source=f"{SOURCE}, with section 1",
        quantity="largest relative difference of the minima that the two solvers find",
        high=1e-10,
        because="two codes and two random starts on the same problem; nothing but rounding is between them",
        measure=_depth_two,
    ),
)

CAPTIONS = {
    "collapse": "Effective rank of the learned map against the retain probability. Markers, SGD (mean ± one standard "
    "deviation over seeds). Lines, the closed form: solid where it is the optimum (with one hidden layer as long as "
    "its rank is at most d, with more at rank 1, left of the dotted line), dashed where it only bounds the optimum.",
    "rate": "The θ up to which the optimum has rank 1. Lines, what theory guarantees; markers, where L-BFGS finds the "
    "change, which for one hidden layer is the same and for deeper networks comes sooner.",
    "spectra": "Singular values of the learned map. Markers, SGD; lines, the closed form where it is the optimum.",
}
"""What to look for in each figure."""
