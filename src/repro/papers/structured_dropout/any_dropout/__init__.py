"""E5: does every dropout distribution have its deterministic objective?

E‖Y − U diag(z/μ) VᵀX‖² = ‖Y − UVᵀX‖² + Σ_ij C̄_ij ⟨u_i,u_j⟩⟨Xᵀv_i,Xᵀv_j⟩ for masks of any mean μ and covariance C:
overlapping (original) DropBlock and correlated Gaussian noise beside Dropout and disjoint DropBlock.
"""

from repro.papers.expectation import slope_claim, stochastic_claim
from repro.papers.structured_dropout.linear_claims import DESCENT
from repro.papers.structured_dropout.settings import LinearConfig, MonteCarlo


class Config(LinearConfig):
    options: MonteCarlo


CLAIMS = (
    stochastic_claim(
        "any_distribution",
        "Masks of any mean μ and covariance C have a deterministic objective: the data fit plus Σ C̄_ij ⟨u_i,u_j⟩"
        "⟨Xᵀv_i,Xᵀv_j⟩.",
        "theorem on general dropout distributions, E5; paper section 3",
    ),
    slope_claim("the penalty of every distribution", "theorem on general dropout distributions, E5; paper section 3"),
    DESCENT,
)

CAPTIONS = {
    "objective": "As for DropBlock, for four distributions of masks: markers (Monte Carlo) on lines (deterministic).",
    "standard_errors": "Distance between the two in standard errors; grey: against the objective of independent "
    "units, which is right for Dropout alone.",
    "covariances": "The relative covariance of the masks, all that the deterministic objective needs to know of a "
    "distribution.",
}
"""What to look for in each figure."""
