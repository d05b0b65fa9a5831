"""What does dropout on every hidden layer of a deep linear network penalise?

E‖W_{L+1}D_L⋯D_1W_1X − WX‖² = R, a recursion over the layers, measured on the iterates of SGD; R does not change when a
unit's input is scaled and its output scaled back; and R ≥ ν‖WX‖²_* with ν = Π_i(1 + λ_i/d_i) − 1, on random networks
and along training.
"""

from dataclasses import replace

import pandas as pd

from repro.papers.deep_linear_dropout import settings
from repro.papers.expectation import slope_claim, stochastic_claim
from repro.pipeline.claims import Claim
from repro.pipeline.settings import Count, Probability, Section
from repro.pipeline.store import Record


class Options(Section):
    """`standard_error`: of a Monte-Carlo mean, relative to it; decides how many masks a measurement averages over.
    `random_networks`: at least so many networks of the grid's depths and widths on which the bound is tried."""

    standard_error: Probability = 0.008
    random_networks: Count = 10000


class Config(settings.Config):
    options: Options

    @property
    def drawn(self) -> tuple[int, int]:
        panels, widths = super().drawn
        return panels, widths * len(self.dropout.rates())


# ---------------------------------------------------------------------- claims


def _rescaling(record: Record) -> pd.Series:
    cells = record.cells
    return cells.rescaled.abs().groupby(cells.seed).max()


def _smallest_ratio(record: Record) -> pd.Series:
    rows = record.table("curves")
    along = (rows.deterministic / rows.bound).groupby(rows.seed).min()
    return along.clip(upper=float(record.arrays["random_ratio"].min()))


def _attained(record: Record) -> pd.Series:
    cells = record.cells[record.cells.depth == 2]
    return (cells.deterministic / cells.bound).groupby(cells.seed).min()


SOURCE = "Mianjy and Arora (2019); paper section 6"

CLAIMS = (
    replace(
        stochastic_claim(
            "recursion_is_expectation",
            "What dropout on every layer adds to the loss is, in expectation, a recursion over second moments.",
            SOURCE,
        ),
        quantity="largest distance of a Monte-Carlo mean of ‖ŴX − WX‖² over masked networks Ŵ from R of the same "
        "iterate, in standard errors",
        because="sampling error alone; a standard error above 1 % of R counts as failed, and a value beyond 3 is "
        "measured once more with four times the masks",
        figure="regularizer",
    ),
    slope_claim("what dropout on every layer adds to the loss", SOURCE),
    Claim(
        id="rescaling",
        statement="The regulariser does not change when weights are rescaled between layers.",
        source=SOURCE,
        quantity="largest relative change of R when every hidden unit is rescaled at random",
        high=1e-12,
        because="rounding alone; rotating the units among each other, which leaves WX as it is too, changes R by tens "
        "of per cent",
        measure=_rescaling,
    ),
    Claim(
        id="lower_bound",
        statement="The regulariser is never below ν times the squared nuclear norm of what the network computes.",
        source=SOURCE,
        quantity="smallest R / (ν‖WX‖²_*) over random networks and all iterates",
        low=1 - 1e-12,
        ideal=1.0,
        because="an inequality, up to rounding; random networks include some at which it is nearly an equality",
        measure=_smallest_ratio,
        figure="bound",
    ),
    Claim(
        id="bound_is_attained",
        statement="With one hidden layer training brings the regulariser down to ν times the squared nuclear norm.",
        source=SOURCE,
        quantity="smallest R / (ν‖WX‖²_*) of a trained network with one hidden layer",
        high=1.02,
        ideal=1.0,
        because="closing the gap is the last thing that training does, and takes longest where the penalty is small; "
        "another norm of the singular values would leave a gap of tens of per cent",
        measure=_attained,
        scales=("cpu", "gpu"),
        figure="bound",
    ),
)

CAPTIONS = {
    "regularizer": "The regulariser R along SGD. Markers, the mean of ‖ŴX − WX‖² over masked networks Ŵ, lie on the "
    "lines, the recursion on the same iterates.",
    "standard_errors": "Distance between the two in standard errors: within the grey band of ±3. Grey points are the "
    "control, the same measurements against the sum of what dropout on one layer at a time would cost, which is the "
    "same for one hidden layer alone.",
    "bound": "How far R lies above its lower bound ν‖WX‖²_*. Left: SGD's iterates, the last "
    "filled; with one hidden layer training "
    "closes the gap at any rank, with more only where the rank falls to 1. Right: random networks, none below.",
}
"""What to look for in each figure."""
