"""What adaptive dropout penalises: strategies, which set retain probabilities from the weights, and their penalties.

Independent masks s with mean 1 and variance (1−α)/α on weights w of unit-norm inputs add ½ Σ (1−α_j)/α_j w_j² to a
squared loss. With η = λα/(1−α) that is (λ/2) Σ w_j²/η_j, and

    Ω(w) = min over η >= 0 of ½ (w²/η + f(η)),      f(η) = max over w of 2Ω(w) − w²/η,

has the minimiser η̂(w) = |w| / Ω'(|w|). A strategy that sets α = η̂(w)/(η̂(w)+λ) from the current w, and descends with
it fixed, is stationary where the loss plus λ Σ Ω(w_j) is. LeJeune, Javadi, Baraniuk (2021), "The flip side of the
reweighted coin: duality of adaptive dropout and regularization".

Every penalty has `value` = Ω, `eta` = η̂, `dual` = f and `retain` = α, some have `prox`; elementwise on tensors of any
shape, float64 inside, with w = 0 and w = ∞ allowed and the sign of w of no account.
"""

from repro.theory.penalties.base import Penalty, WithProx
from repro.theory.penalties.closed import L1, MCP, SCAD, LogSquare, LogSum, Lp, Standout
from repro.theory.penalties.implicit import HardConcrete, VariationalDropout
from repro.theory.penalties.integral import effective_penalty
from repro.theory.penalties.vectors import HardThreshold

__all__ = [
    "L1",
    "MCP",
    "SCAD",
    "HardConcrete",
    "HardThreshold",
    "LogSquare",
    "LogSum",
    "Lp",
    "Penalty",
    "Standout",
    "VariationalDropout",
    "WithProx",
    "effective_penalty",
]
