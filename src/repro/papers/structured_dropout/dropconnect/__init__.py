"""E3: is DropConnect the same regulariser as Dropout?

On U, yes: E‖Y − (1/θ)(Z∘U)VᵀX‖² = ‖Y − UVᵀX‖² + (1−θ)/θ Σ_i ‖u_i‖²‖Xᵀv_i‖². On V only where XXᵀ is a multiple of the
identity: with correlated inputs the masked V has another objective (the negative control).
"""

import pandas as pd
from pydantic import model_validator

from repro.papers.expectation import slope_claim, stochastic_claim
from repro.papers.structured_dropout.linear_claims import DESCENT
from repro.papers.structured_dropout.settings import LinearConfig, MonteCarlo
from repro.pipeline.claims import Claim
from repro.pipeline.settings import Count
from repro.pipeline.store import Record


class Options(MonteCarlo):
    monte_carlo_masks: Count = 512


class Config(LinearConfig):
    options: Options

    @model_validator(mode="after")
    def _dropconnect_alone(self) -> "Config":
        self.dropout.only(self.name, lambda noise: noise.scheme in ("dropconnect_U", "dropconnect_V"))
        return self

    @property
    def cells(self) -> int:
        return 1  # two grids, one after the other

    @property
    def networks(self) -> int:
        return 2 * super().cells


def same_as_dropout(rows: pd.DataFrame) -> pd.Series:
    """Where theory says that the objective is Dropout's."""
    return (rows.scheme != "dropconnect_V") | rows.whitened


def _distance_to_dropout(record: Record) -> pd.Series:
    rows = record.table("curves")
    rows = rows[same_as_dropout(rows)]
    return (rows.deterministic / rows.dropout_objective - 1).abs().groupby(rows.seed).max()


def _correlated_distance(record: Record) -> pd.Series:
    rows = record.table("curves")
    rows = rows[~same_as_dropout(rows) & (rows.step > 0)]
    return ((rows.monte_carlo - rows.dropout_objective).abs() / rows.standard_error).groupby(rows.seed).median()


CLAIMS = (
    stochastic_claim(
        "stochastic_is_deterministic",
        "The loss under DropConnect has a deterministic objective as well.",
        "theorem on DropConnect, E3; paper section 2",
    ),
    slope_claim("DropConnect's penalty", "theorem on DropConnect, E3; paper section 2"),
    Claim(
        id="dropconnect_is_dropout",
        statement="DropConnect on the last layer induces exactly Dropout's regulariser; on the first it does for "
        "whitened inputs.",
        source="theorem on DropConnect, E3; paper section 2",
        quantity="largest relative distance between DropConnect's and Dropout's deterministic objectives",
        high=1e-10,
        because="an identity: rounding in float64",
        measure=_distance_to_dropout,
        figure="objective",
    ),
    Claim(
        id="correlated_inputs_differ",
        statement="Masks on the first layer with correlated inputs are another regulariser: the control.",
        source="ours; paper section 2",
        quantity="median distance of the Monte-Carlo mean from Dropout's objective, in standard errors",
        low=10.0,
        because="far beyond sampling error: the same measurement does see a difference where there is one",
        measure=_correlated_distance,
        figure="standard_errors",
    ),
    DESCENT,
)

CAPTIONS = {
    "objective": "Dotted, Dropout's objective, lies on DropConnect's everywhere but in the last panel: masks on V with "
    "correlated inputs.",
    "standard_errors": "Distance between Monte Carlo and DropConnect's own objective in standard errors; grey, against "
    "Dropout's: it leaves the band where theory says that the two differ.",
}
"""What to look for in each figure."""
