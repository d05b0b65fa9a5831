"""How many directions a spectrum uses."""

import torch
from jaxtyping import Float
from torch import Tensor

from repro.theory.arrays import takes_arrays
from repro.theory.checks import check_vectors


@takes_arrays
def effective_rank(singular_values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """exp of the entropy of the normalised singular values: exp(-Σ q_i log q_i) with q_i = σ_i/Σσ.

    Between 1 (one direction) and n (all equal), and a continuous stand-in for the rank; 0 for an all-zero
    spectrum. Source: Roy, Vetterli (2007), "The effective rank: a measure of effective dimensionality".

    Args:
        singular_values: >= 0, in any order, float32 or float64.

    Raises:
        ValueError: an entry is negative or not finite.
    """
    check_vectors("singular_values", singular_values)
    smallest = singular_values.detach().amin().item() if singular_values.numel() else 0.0
    if smallest < 0:
        raise ValueError(f"singular_values must be in [0, inf), got {smallest}")
    largest = singular_values.detach().amax(-1, keepdim=True)
    empty = largest == 0
    relative = singular_values / torch.where(empty, torch.ones_like(largest), largest)  # so that no sum overflows
    shares = relative / torch.where(empty, torch.ones_like(largest), relative.sum(-1, keepdim=True))
    entropy = torch.special.entr(shares).sum(-1)
    return torch.where(empty.squeeze(-1), torch.zeros_like(entropy), entropy.exp())
