"""Where dropout on every hidden layer of a deep linear network makes rank 1 the optimum."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq, minimize
from torch import Tensor

from repro.theory.arrays import takes_arrays
from repro.theory.checks import check_vectors
from repro.theory.deep_linear import critical_penalty

# The branch of higher rank is followed in steps of this share of the rate at which rank 1 is certain: it outlives its
# crossing by more.
STEP = 0.02
ROUNDS = 4  # of L-BFGS, each with a fresh memory


class Onset(NamedTuple):
    """From where on the optimum has rank 1.

    Attributes:
        rate: λ/d, λ = (1−θ)/θ, at which it begins; every hidden layer has d units and θ. NaN where it never does, or
            always.
        ratio: second over first singular value of the optimum just below: 0 where the rank falls continuously.
    """

    rate: float
    ratio: float


@takes_arrays
def collapse_onset(singular_values: Float[Tensor, " n"], layers: int) -> Onset:
    """The onset of rank 1 with `layers` hidden layers.

    With one it is `critical_penalty`, where the second singular value reaches 0. With more it is a jump: a weak second
    direction costs its square and gains a higher power, so that rank 1 is a local minimum at any rate, and global from
    where F_2(μ) = F_1(μ), the least values of higher rank and of rank 1 at μ = λ/d: F_1 = ‖m‖² − m_1²/(1+μ)^L.

    F_2 is that of a diagonal problem. Rotations of a hidden layer leave WX as it is and may give all of its d units one
    second moment (Schur–Horn); masks then add μ·tr K times the identity, of which layer i + 1 of singular values s_i+1
    in the same bases sees s²_i+1:

        k_1 = s_1²,    k_{i+1} = s_{i+1}² (k_i + μ Σk_i),    F = ‖m‖² − 2⟨m, Π_i s_i⟩ + Σk_{L+1}.

    Widths enter through μ alone. That no network does better is not proven here; it is measured.

    Args:
        singular_values: m of YX⁺X (`target_spectrum`), decreasing.
    """
    check_vectors("singular_values", singular_values)
    penalty = float(critical_penalty(singular_values))
    if penalty in (0, math.inf):
        return Onset(math.nan, math.nan)
    if layers == 1:
        return Onset(penalty, 0.0)
    m = singular_values.double().numpy()
    certain = math.expm1(math.log1p(penalty) / layers)
    branch = np.tile(m ** (1 / (layers + 1)), (layers + 1, 1))

    def excess(share: float) -> float:
        rank_one = float(m @ m) - float(m[0] ** 2) / (1 + share * certain) ** layers
        return _minimum(branch, m, share * certain)[1] - rank_one * (1 - 1e-13)

    for share in np.arange(STEP, 1 + STEP, STEP):
        if excess(share) >= 0:
            break
        branch = _minimum(branch, m, share * certain)[0]
    onset = brentq(excess, share - STEP, share, xtol=1e-9) if share > STEP else math.nan
    found = np.sort(np.abs(_minimum(branch, m, onset * certain)[0].prod(0)))
    return Onset(onset * certain, float(found[-2] / found[-1]))


def _minimum(start: np.ndarray, m: np.ndarray, rate: float) -> tuple[np.ndarray, float]:
    """The s, (layers + 1, n), of a local minimum of the diagonal problem, and its value."""

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        s = flat.reshape(start.shape)
        seen, k = [], np.zeros_like(m)
        for i, scale in enumerate(s):
            seen.append(k + rate * k.sum() if i else np.ones_like(m))
            k = scale**2 * seen[-1]
        gradient, weight = np.empty_like(s), np.ones_like(m)
        for i in reversed(range(len(s))):
            gradient[i] = 2 * s[i] * seen[i] * weight - 2 * m * np.delete(s, i, 0).prod(0)
            weight = s[i] ** 2 * weight
            weight = weight + rate * weight.sum()
        return float(m @ m - 2 * m @ s.prod(0) + k.sum()), gradient.ravel()

    point, options = start.ravel(), {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0.0, "gtol": 1e-13}
    for _ in range(ROUNDS):
        found = minimize(value_and_gradient, point, jac=True, method="L-BFGS-B", options=options)
        point = found.x
    return point.reshape(start.shape), float(found.fun)
