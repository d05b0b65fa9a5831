"""What does a strategy of adaptive dropout penalise?

Scaled Bernoulli and Gaussian masks of one variance add the same Tikhonov term to a squared loss. A strategy that sets
the retain probability α from the weight adds λΩ with λΩ(w) = ∫₀^|w| v(1−α(v))/α(v) dv: by quadrature beside the closed
forms, with conjugates and curvature; and the paper's figure, with how near Bayesian strategies come to classical ones.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import pandas as pd

from repro.data.sparse_regression import Settings as SparseRegression
from repro.papers.adaptive_dropout import settings
from repro.papers.expectation import slope_claim, stochastic_claim
from repro.pipeline.claims import Claim
from repro.pipeline.settings import Count, Found, Positive, Section
from repro.pipeline.store import Record


class Options(Section):
    """`weight`: λ at which strategies are integrated. `points`: of each grid of w. `masks`: of a Monte-Carlo mean."""

    weight: Positive
    points: Count
    masks: Count


class Config(settings.Config):
    UNUSED: ClassVar[Mapping[str, str]] = {
        "model": settings.NO_MODEL,
        "dropout": settings.NO_NOISE,
        "training": "nothing is trained",
    }

    data: Found[SparseRegression]
    options: Options


FALLING = "falling"
"""The strategy that retains large weights less: the control."""
Measure = Callable[[Record], pd.Series]


# ---------------------------------------------------------------------- claims


def _one(record: Record, value: float) -> pd.Series:
    """A number in which no seed has a part."""
    return pd.Series([float(value)], index=record.config["seed"][:1])


def _largest(column: str) -> Measure:
    return lambda record: _one(record, record.cells[column].max())


def _wrong_curvature(record: Record) -> pd.Series:
    return _one(record, record.cells.wrong_curvature.sum())


def _control(record: Record) -> pd.Series:
    falling = record.cells[record.cells.strategy == FALLING]
    return _one(record, falling.curvature.max())


def distances(record: Record) -> pd.DataFrame:
    """Largest distance of two curves of the figure's scalar panel, relative to the rise of the row's one."""
    names, values = record.arrays["shown"], record.arrays["scalar"]
    known = np.isfinite(values).all(1)  # all but the hard threshold, which is no sum over entries
    curves = values[known] - values[known, :1]
    apart = np.abs(curves[:, None] - curves).max(2) / curves.max(1)[:, None]
    return pd.DataFrame(apart, index=names[known], columns=names[known])


def _likeness(one: str, other: str) -> Measure:
    def measure(record: Record) -> pd.Series:
        found = distances(record).loc[one]
        return _one(record, found[other] / found.drop([one, other]).min())

    return measure


def _noises(record: Record) -> pd.Series:
    rows = record.table("curves")
    rows = rows[rows.monte_carlo.notna()]
    pairs = rows.pivot_table(index=["seed", "alpha", "step"], columns="noise", values=["monte_carlo", "standard_error"])
    apart = (pairs["monte_carlo"].bernoulli - pairs["monte_carlo"].gaussian).abs()
    errors = np.hypot(pairs["standard_error"].bernoulli, pairs["standard_error"].gaussian)
    return (apart / errors).groupby("seed").max()


SOURCE = "LeJeune, Javadi, Baraniuk (2021)"

CLAIMS = (
    stochastic_claim(
        "dropout_is_tikhonov",
        "Dropout adds Σ (1−α_j)/α_j w_j² / 2 to a squared loss, whatever the retain probabilities.",
        f"{SOURCE}, section 2",
        what="weights",
        figure="tikhonov",
    ),
    slope_claim("what masks on weights add to the loss", f"{SOURCE}, section 2", figure="tikhonov"),
    Claim(
        id="noises_agree",
        statement="Bernoulli and Gaussian masks of one variance are the same penalty.",
        source=f"{SOURCE}, section 2",
        quantity="largest distance of the two Monte-Carlo means of one weight vector, in standard errors of the "
        "difference",
        high=4.0,
        because="sampling error alone: of some dozens of differences one beyond 3 is no surprise, one beyond 4 is",
        measure=_noises,
        figure="tikhonov",
    ),
    Claim(
        id="integral_is_penalty",
        statement="Integrated, a strategy gives the penalty that it amounts to.",
        source=f"{SOURCE}, duality theorem",
        quantity="largest relative distance of (1/λ)∫ v(1−α)/α dv from Ω(w) − Ω(0)",
        high=1e-7,
        because="quadrature to 1e-10, and the closed form's own cancellation near 0",
        measure=_largest("integral_error"),
        figure="duality",
    ),
    Claim(
        id="dual_is_conjugate",
        statement="The penalty on η is the conjugate of the penalty on the weights.",
        source=f"{SOURCE}, η-trick",
        quantity="largest relative distance of f(η) from the largest 2Ω(w) − w²/η on a fine grid of w",
        high=1e-6,
        because="what a grid of steps of 1e-4 misses, (step)²; hard concrete gates up to where their η̂ jumps",
        measure=_largest("conjugate_error"),
        figure="duality",
    ),
    Claim(
        id="monotone_is_subquadratic",
        statement="A penalty is concave in w² exactly where the strategy's retain probability does not fall with |w|.",
        source=f"{SOURCE}, monotone strategies",
        quantity="points of all strategies' grids at which the sign of α's change and of Ω(√u)'s curvature disagree",
        low=0.0,
        high=0.0,
        because="an equivalence, of signs alone; points at which either is within rounding of 0 are not counted",
        measure=_wrong_curvature,
        figure="curvature",
    ),
    Claim(
        id="decreasing_is_not",
        statement="A strategy that keeps large weights less gives a penalty that is convex in w²: the control.",
        source="ours",
        quantity="largest second difference of Ω(√u) for α = 1/(1 + 0.3(1+v)), of what Ω rises over the grid",
        low=1e-6,
        ideal=1e-4,
        because="the sign alone counts; rounding is 1e-12",
        measure=_control,
        figure="curvature",
    ),
    Claim(
        id="variational_is_log_sum",
        statement="Variational dropout penalises much as the log-sum penalty does.",
        source=f"{SOURCE}, section 4 and figure: “remarkably similar”",
        quantity="largest distance of the two curves, of that to the nearest other one of the figure",
        high=0.25,
        because="a quarter of what tells the figure's other penalties apart; set when the value was known (0.14)",
        measure=_likeness("VarDrop", "LogSum"),
        figure="penalties",
    ),
    Claim(
        id="gates_are_mcp",
        statement="Hard concrete gates penalise much as the minimax concave penalty does.",
        source=f"{SOURCE}, section 4 and figure",
        quantity="largest distance of the two curves, of that to the nearest other one of the figure",
        high=0.25,
        because="as above; set when the value was known",
        measure=_likeness("HardConcrete", "MCP"),
        figure="penalties",
    ),
)


CAPTIONS = {
    "penalties": "The paper's figure. Left, the penalty of one weight, with the value at the left end subtracted: "
    "variational dropout runs beside the log-sum penalty, hard concrete gates beside MCP, and standout alone starts "
    "flat. Right, of k equal weights with one norm: what is concave rises with k.",
    "duality": "The integral of each strategy (markers) on its closed form (lines).",
    "curvature": "The penalty against the squared weight: concave where α rises with |w|; for the decreasing strategy, "
    "the control, convex.",
    "tikhonov": "Mean loss under masks (markers, ± one standard error) on the Tikhonov term, both without the loss of "
    "the bare weights. Grey, the control: a variance of 1 − α.",
}
"""What to look for in each figure."""
