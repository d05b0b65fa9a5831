"""E1: is SGD with DropBlock stochastic gradient descent on the deterministic objective?

E‖Y − (1/θ) U diag(z) VᵀX‖² = ‖Y − UVᵀX‖² + (1−θ)/θ Σ_i ‖U_i V_iᵀX‖², for every U and V: measured on the iterates
of SGD, beside gradient descent on the right-hand side from the same start.
"""

from repro.papers.expectation import slope_claim, stochastic_claim
from repro.papers.structured_dropout.linear_claims import DESCENT
from repro.papers.structured_dropout.settings import LinearConfig, MonteCarlo


class Config(LinearConfig):
    options: MonteCarlo


CLAIMS = (
    stochastic_claim(
        "stochastic_is_deterministic",
        "The loss under DropBlock is, in expectation over the masks, the data fit plus (1−θ)/θ Σ‖U_iV_iᵀX‖².",
        "theorem on the deterministic objective, E1; paper section 1",
    ),
    slope_claim("DropBlock's penalty", "theorem on the deterministic objective, E1; paper section 1"),
    DESCENT,
)

CAPTIONS = {
    "objective": "The objective along training. Markers, the Monte-Carlo mean of the loss under DropBlock on SGD's "
    "iterates, lie on the solid lines, the deterministic objective of the same iterates; dashed, "
    "descending the deterministic objective from the same start.",
    "standard_errors": "Distance between the two in standard errors. Colours scatter within the grey band of ±3; the "
    "grey points are the control, the same measurements against Dropout's objective, and leave it for "
    "r > 1.",
}
"""What to look for in each figure."""
