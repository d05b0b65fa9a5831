"""Claims that several linear experiments share: two descents that end alike, and the closed form that SGD reaches."""

from collections.abc import Callable

import pandas as pd

from repro.pipeline.claims import Claim
from repro.pipeline.store import Record

TRAINED = ("cpu", "gpu")
"""The scales at which training lasts long enough to be compared with the closed form."""


def _descent_difference(record: Record) -> pd.Series:
    rows = record.table("curves")
    last = rows[rows.step == rows.step.max()]
    difference = (last.deterministic / last.deterministic_training - 1).abs()
    return last.assign(difference=difference).groupby("seed").difference.max()


DESCENT = Claim(
    id="same_descent",
    statement="Training on random masks and descending the deterministic objective end at the same value.",
    source="E1, E3, E5; paper sections 1 to 3",
    quantity="largest relative difference of the objectives reached from one start",
    high=0.02,
    because="SGD on finitely many masks keeps a little noise; a wrong penalty changes the value by tens of per cent",
    measure=_descent_difference,
    scales=TRAINED,
    figure="objective",
)


def with_closed_form(record: Record) -> pd.DataFrame:
    """The cells of which theory knows the minimum: no claim is made of the others."""
    return record.cells[record.cells.closed_form.notna()]


def _of_cells(column: str) -> Callable[[Record], pd.Series]:
    """The largest of each seed's cells; NaN where a cell diverged, since then nothing was reached."""

    def measure(record: Record) -> pd.Series:
        cells = with_closed_form(record)
        return cells[column].abs().groupby(cells.seed).max().where(~cells.diverged.groupby(cells.seed).any())

    return measure


MINIMUM = (
    Claim(
        id="sgd_reaches_minimum",
        statement="Training with DropBlock reaches the global minimum of the regularised objective in closed form.",
        source="theorem on global minimisers, E2; paper section 1",
        quantity="largest relative gap between SGD's final deterministic objective and the closed form",
        high=1e-3,
        because="SGD ends within its own noise of the minimum; above or below, the distance counts",
        measure=_of_cells("relative_gap"),
        scales=TRAINED,
    ),
    Claim(
        id="sgd_reaches_minimizer",
        statement="What training arrives at is the closed-form matrix itself, not only its value.",
        source="theorem on global minimisers, E2; paper section 1",
        quantity="largest ‖UVᵀX − A‖ / ‖A‖ over the grid",
        high=0.1,
        because="a relative gap of 1e-4 in a quadratic objective is a distance of 1e-2, and more where dropout has "
        "left little of A; a wrong regulariser is off by tens of per cent",
        measure=_of_cells("minimizer_distance"),
        scales=TRAINED,
    ),
    Claim(
        id="singular_values",
        statement="Singular values are shrunk by the proximal map of the squared r-support norm.",
        source="theorem on global minimisers, E2 and E4; paper section 1",
        quantity="largest ‖σ(UVᵀX) − a‖ / ‖a‖ over the grid",
        high=0.1,
        because="as for the matrix",
        measure=_of_cells("singular_value_error"),
        scales=TRAINED,
    ),
    Claim(
        id="balanced_blocks",
        statement="At a minimum all blocks contribute equally: ‖U_1V_1ᵀX‖ = … = ‖U_kV_kᵀX‖.",
        source="proposition on balancedness, E2; paper section 1",
        quantity="largest coefficient of variation of the block norms over the grid",
        high=0.1,
        because="the objective is flat to second order around balance, so SGD's noise shows most here",
        measure=_of_cells("imbalance"),
        scales=TRAINED,
    ),
)
