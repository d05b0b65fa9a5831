"""How wide a network must be to attain the closed form."""

from jaxtyping import Float
from torch import Tensor

from repro.theory.arrays import takes_arrays
from repro.theory.minimizer import shrink_singular_values

# Relative: what counts as saturated, as 0, as a pair.
ROUNDING = 1e-9


@takes_arrays
def blocks_needed(singular_values: Float[Tensor, " n"], block_size: int, penalty: float) -> int:
    """The least number k of blocks of r units that can carry argmin_A ‖Y − A‖² + λ‖A‖²_(r).

    Of its singular values a, s are saturated, m_i/(1+λ), and n others share the rest. A network attains it where
    A = ΣB_i with rank B_i <= r, Σ‖B_i‖_F = ‖A‖_(r) and all k norms equal. By duality each B_i is then 1/k of the
    saturated part and a multiple of a projection P_i of rank q = r − s on the n other directions, so that what must
    be is

        P_1 + … + P_k = k·D,    D = q·diag(a_j / Σa_j) over the n others.

    Ranks ask for k·q >= n and, of the complements 1 − P_i, for k·(n−q) >= n − #{D_j = 1}; the eigenvalues of a sum of
    two projections lie in pairs around 1. The least k that passes is returned. It is necessary; sufficient is it for
    q = 1 (Fillmore 1969: there a hidden layer needs as many blocks as unsaturated directions) and for n − q = 1.

    Args:
        singular_values: m of YX⁺X (`target_spectrum`), decreasing.
        block_size: r.
        penalty: λ = (1−p)/p.

    Raises:
        ValueError: as `shrink_singular_values`.
    """
    a = shrink_singular_values(singular_values, block_size, penalty)
    a = a[a > ROUNDING * a.max()]
    saturated = int((a * (1 + penalty) >= (1 - ROUNDING) * singular_values[: len(a)]).sum())
    rest, rank = a[saturated:], block_size - saturated
    n = len(rest)
    if n <= rank:
        return 1
    D = rank * rest / rest.sum()
    whole = int((D >= 1 - ROUNDING).sum())
    paired = bool(((D + D.flip(0) - 1).abs() <= ROUNDING).all())
    fits = (k * rank >= n and k * (n - rank) >= n - whole and (k > 2 or paired) for k in range(2, n))
    return next((k for k, fit in enumerate(fits, 2) if fit), n)  # n blocks do: q = 1 needs no more, and no q does
