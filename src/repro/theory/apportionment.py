"""The minimum where every hidden unit serves one class: features that are not negative, on one-hot targets."""

import torch
from jaxtyping import Float
from torch import Tensor

from repro.theory.arrays import takes_arrays
from repro.theory.checks import check_blocks, check_vectors, check_weight


@takes_arrays
def apportioned_spectrum(
    singular_values: Float[Tensor, " n"], block_size: int, width: int, odds: float
) -> Float[Tensor, " n"]:
    """The singular values of the best predictions of d units that serve one class each, on one-hot targets.

    The r-support norm is ‖a‖²_(r) = min Σ a_c²/t_c over 0 ≤ t_c ≤ 1, Σt_c ≤ r. A class that k_c blocks share has
    t_c = k_c r/d: whole blocks allow multiples of r/d only, k_c ≤ d/r in number, Σk_c ≤ d units in all. Given k,

        Σ_c (m_c − a_c)² + odds·a_c²/k_c   is least at   a_c = m_c k_c/(k_c + odds),

    with Σ_c m_c² odds/(k_c + odds) left. Each further unit gains less, so the best k gives unit after unit to the class
    that gains most. ReLU features before averaging are not negative, and then two classes on one unit add a term to
    the data fit that units of either sign cancel: for them this, and not `shrink_singular_values`, is what can be
    expected; that nothing does better is not proven. The two differ less the more units there are.

    Args:
        singular_values: m_c, the square root of each class's number of samples.
        block_size: r.
        width: d, a multiple of r.
        odds: (1−θ)/θ.
    """
    check_vectors("singular_values", singular_values)
    check_blocks(width, block_size)
    check_weight("odds", odds)
    m, units = singular_values, torch.zeros_like(singular_values)
    for _ in range(min(width, len(m) * (width // block_size))):
        gain = m.square() * odds / ((units + odds) * (units + 1 + odds)) if odds else m.square() * (units == 0)
        units[gain.where(units < width // block_size, -1).argmax()] += 1
    return m * units / (units + odds).clamp_min(torch.finfo(m.dtype).tiny)
