"""How dropout lowers the rank of what a deep linear network learns, against its rate, depth and width.

The objective is never below min_A ‖Y − A‖² + ν‖A‖²_*, whose minimiser shrinks the singular values of YX⁺X. With one
hidden layer that is the optimum; with more it is where that minimiser has rank 1, from ν = m_2/(m_1 − m_2) on: there
collapse is certain, and happens sooner, where a rank above 1 stops to pay (`theory.collapse_onset`). L-BFGS on the
deterministic objective of the whole network is asked on either side of it, SGD on the stochastic one follows.
"""

import numpy as np
import pandas as pd

from repro.papers.deep_linear_dropout import settings
from repro.pipeline.claims import Claim, NotMeasured
from repro.pipeline.settings import Count, Section
from repro.pipeline.store import Record

# What is found of each depth and width about the onset of rank 1, an array `collapse_…` each.
COLLAPSE = ["depth", "width", "predicted", "onset", "ratio", "below", "above", "gap_below", "gap_above", "least"]

AROUND = 0.01
"""How far from the derived onset, as a share of its λ, L-BFGS is asked on either side."""

COUNTED = 1e-6
"""A singular value counts towards a rank above this fraction of the largest."""

ROUNDING = 1e-12
"""Of L-BFGS's objective, relative."""


class Options(Section):
    """`starts`: random starts of L-BFGS, of which the best counts."""

    starts: Count = 2


class Config(settings.Config):
    options: Options


def single_layer_difference(table: pd.DataFrame) -> pd.Series:
    """Of the optima that the solvers for deep and for single hidden layers find at depth 2, relative."""
    return (table.solver_objective / table.single_layer_objective - 1).abs().dropna()


def measured_share(found: pd.DataFrame) -> pd.Series:
    """Where each network's optimum takes rank 1, a multiple of the derived λ; NaN where not between the two solves.

    With one hidden layer, 1 where the second singular value dies between them. With more, where the branch of higher
    rank crosses the objective of rank 1, on a straight line through both solves; nothing else may lie lower after it.
    """
    lives, below, above = found.below > COUNTED, found.gap_below, found.gap_above
    dies = lives & (found.above < COUNTED)
    crosses = lives & (below < 0) & (above > 0) & (found.least > -ROUNDING)
    crossing = 1 - AROUND + 2 * AROUND * below / (below - above)
    return crossing.where(crosses).where(found.depth > 2, dies.astype(float).where(dies))


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


def _onset(record: Record, deeper: bool) -> pd.DataFrame:
    found = pd.DataFrame({name: record.arrays[f"collapse_{name}"] for name in COLLAPSE})
    found = found[((found.depth > 2) == deeper) & found.onset.notna()]
    if found.empty:
        raise NotMeasured(f"no network with {'more hidden layers' if deeper else 'one hidden layer'} has an onset")
    return found.assign(share=measured_share(found))


def _alone(record: Record, value: float) -> pd.Series:
    """A number that no seed of SGD has a part in."""
    return pd.Series([value], index=record.config["seed"][:1])


def _missed(record: Record) -> pd.Series:
    return _alone(record, float(_onset(record, deeper=False).share.isna().sum()))


def _crossing(record: Record) -> pd.Series:
    return _alone(record, (_onset(record, deeper=True).share - 1).abs().fillna(np.inf).max())


def _jump(record: Record) -> pd.Series:
    found = _onset(record, deeper=True)
    return _alone(record, ((found.below + found.above) / 2 / found.ratio - 1).abs().max())


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
        ideal=1.0,
        because="SGD keeps a little noise in directions that have died; two that live have an effective rank above 1.2",
        measure=_certain_rank,
        scales=("cpu", "gpu"),
        figure="collapse",
    ),
    Claim(
        id="onset_one_layer",
        statement="With one hidden layer, rank 1 begins at exactly the predicted rate.",
        source=SOURCE,
        quantity=f"widths at which the rank does not fall to 1 between λ_predicted·(1 − {AROUND:g}) and "
        f"λ_predicted·(1 + {AROUND:g})",
        low=0.0,
        high=0.0,
        because=f"the optimum is asked on both sides: {100 * AROUND:g} % before the predicted rate the closed form "
        "still has a second singular value of more than 1e-3 of the first, after it L-BFGS leaves less than 1e-12; "
        f"{COUNTED:g} lies in the middle",
        measure=_missed,
        figure="rate",
    ),
    Claim(
        id="onset_deeper",
        statement="Deeper networks collapse sooner: where the best diagonal network of higher rank stops to pay, at "
        "one λ/d whatever the width.",
        source="ours, beyond the paper, which says where rank 1 is certain; paper section 6",
        quantity="largest relative distance of the λ at which the full network's branch of higher rank crosses rank "
        "1's objective from the derived one; infinite where it does not within 1 % of it, or another start lies lower",
        high=0.001,
        because="the crossing is read off a straight line through the solves at ± 1 %, of which its bend is allowed a "
        "tenth; the rate that theory calls certain is 1.7 to 2.7 times as large",
        measure=_crossing,
        scales=("cpu", "gpu"),
        figure="rate",
    ),
    Claim(
        id="onset_jumps",
        statement="With more hidden layers the rank does not fade, it jumps: the second singular value dies at the "
        "derived, finite size.",
        source="ours, beyond the paper; paper section 6",
        quantity="largest relative error of σ_2/σ_1 at the onset, mean of the solves on either side",
        high=0.01,
        because="as far as the two solves are from the onset; with one hidden layer the ratio there is 0",
        measure=_jump,
        scales=("cpu", "gpu"),
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
    "rate": "The θ up to which the optimum has rank 1. Solid lines, what theory guarantees; dashed, for more than one "
    "hidden layer, the onset derived from a diagonal network; markers, where L-BFGS on the whole network finds the "
    "change, within 1 % of λ on either side.",
    "spectra": "Singular values of the learned map. Markers, SGD; lines, the closed form where it is the optimum.",
}
"""What to look for in each figure."""
