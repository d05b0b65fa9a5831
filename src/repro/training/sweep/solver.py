"""The deterministic objective minimised to machine precision: L-BFGS from a random start.

The minimum over factors of width d is what the closed form predicts when d is large enough, and exceeds it when
d is not: this solver measures which. It works on the data projected on the rows of X in coordinates in which the
problem is diag(m) with an identity Gram matrix (m the singular values of YX⁺X), a change of variables that leaves
every value of the objective as it is and conditions it as well as it can be.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from repro.dropout.distribution import MaskDistribution
from repro.pipeline.system.threads import torch_threads
from repro.training.sweep.noise import Cell, Problem, noise_of

MAX_ITERATIONS = 20_000
MAX_ROUNDS = 20
# Rounds end when one lowers the objective by no more than this fraction.
PRECISION = 1e-14
# The start is this small against the target. From a small start the directions grow in the order in which they
# matter, tens of iterations to full precision; from a large one, superfluous directions take thousands to die.
START = 0.3


@dataclass(frozen=True)
class Solution:
    """A minimum of the deterministic objective.

    Attributes:
        objective: its value, with the part of ‖Y‖² that no linear network can fit.
        singular_values: of the prediction UVᵀX, decreasing, one for each singular value of the target.
        block_products: the factors' U_i VᵀX_i norms are functions of these: (UᵀU, VᵀXXᵀV), (2, d, d).
        iterations: of L-BFGS.
    """

    objective: float
    singular_values: Float[Tensor, " n"]
    block_products: Float[Tensor, "2 d d"]
    iterations: int


def solve(
    target: Float[Tensor, " n"], residual: float, masks: MaskDistribution, seed: int, precision: float = 0.0
) -> Solution:
    """Minimise the deterministic objective of masks on the hidden units over U, V of the masks' width.

    Args:
        target: m, the singular values of YX⁺X (`repro.theory.target_spectrum`), n of them.
        residual: ‖Y − YX⁺X‖²_F.
        masks: the distribution of the masks, of width d.
        seed: of the random start.
        precision: see `minimise`.
    """
    n, width = len(target), masks.shape[0]
    problem = Problem(
        gram=torch.eye(n, dtype=torch.float64),
        cross=target.double().diag(),
        energy=float(target.square().sum()),
    )
    cell = Cell(masks, seed)
    noise = noise_of(problem, [cell])
    start = torch.randn(2, n, width, generator=cell.generator("solver"), dtype=torch.float64)
    start *= START * (target.max().item() * masks.retain**0.5 / n) ** 0.5

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        U, V = torch.from_numpy(flat).view(2, 1, n, width)
        gradient = torch.stack(noise.expected_gradient(U, V))
        return noise.objective(U, V).item(), gradient.flatten().numpy()

    point, value, iterations = minimise(value_and_gradient, start.flatten().numpy(), precision)
    U, V = torch.from_numpy(point).view(2, n, width)
    return Solution(
        objective=value + residual,
        singular_values=torch.linalg.svdvals(U @ V.mT),
        block_products=torch.stack([U.mT @ U, V.mT @ V]),
        iterations=iterations,
    )


def minimise(
    value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, precision: float = 0.0
) -> tuple[np.ndarray, float, int]:
    """A local minimum of a smooth function by L-BFGS: the point, its value, the iterations.

    To the last digits, or until an iteration lowers the value by no more than the fraction `precision`.
    """
    point, value, iterations = start, np.inf, 0
    options = {"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "ftol": precision, "gtol": 0.0}
    # Products of matrices this small, torch's and SciPy's own, only lose by a second thread, and lose badly (tenfold)
    # where cores are shared.
    with torch_threads(1), threadpool_limits(1, user_api="blas"):
        # A line search that finds no descent in the last digits ends a round; a fresh memory often finds more.
        for _ in range(MAX_ROUNDS):
            found = minimize(value_and_gradient, point, jac=True, method="L-BFGS-B", options=options)
            point, iterations = found.x, iterations + found.nit
            if found.fun >= value * (1 - PRECISION) or precision:
                break
            value = found.fun
    return point, found.fun, iterations
