"""Pure functions on tensors: support norms and their proximal map, deterministic objectives, closed forms.

They take NumPy arrays too, and return tensors. Samples are columns: X (inputs, samples), Y (outputs, samples); where a
function takes just these two, Y comes first.
"""

from repro.theory.apportionment import apportioned_spectrum
from repro.theory.blocks import equal_blocks
from repro.theory.deep_linear import (
    critical_penalty,
    critical_retain,
    deep_dropout_regularizer,
    induced_penalty,
    rank_one_minimizer,
    regularizer_bound,
)
from repro.theory.importance import importance
from repro.theory.landmark_errors import error_auc, error_share, landmark_errors
from repro.theory.minimizer import (
    GlobalMinimum,
    global_minimizer,
    minimum_value,
    shrink_singular_values,
    target_spectrum,
)
from repro.theory.objectives import (
    dropblock_objective,
    dropconnect_objective,
    expected_objective,
    retain_probability,
)
from repro.theory.onset import Onset, collapse_onset
from repro.theory.shrinkage import gentleness, penalized_minimizer, shrinkage
from repro.theory.spectrum import effective_rank
from repro.theory.support_norm import k_support_norm, prox_squared_k_support, spectral_k_support_norm
from repro.theory.variational import (
    best_rotation,
    kl_empirical_bayes,
    kl_hierarchical,
    kl_log_uniform,
    kl_normal,
    noise_gram,
    optimal_rates,
    total_correlation,
)
from repro.theory.width import blocks_needed

__all__ = [
    "GlobalMinimum",
    "Onset",
    "apportioned_spectrum",
    "best_rotation",
    "blocks_needed",
    "collapse_onset",
    "critical_penalty",
    "critical_retain",
    "deep_dropout_regularizer",
    "dropblock_objective",
    "dropconnect_objective",
    "effective_rank",
    "equal_blocks",
    "error_auc",
    "error_share",
    "expected_objective",
    "gentleness",
    "global_minimizer",
    "importance",
    "induced_penalty",
    "k_support_norm",
    "kl_empirical_bayes",
    "kl_hierarchical",
    "kl_log_uniform",
    "kl_normal",
    "landmark_errors",
    "minimum_value",
    "noise_gram",
    "optimal_rates",
    "penalized_minimizer",
    "prox_squared_k_support",
    "rank_one_minimizer",
    "regularizer_bound",
    "retain_probability",
    "shrink_singular_values",
    "shrinkage",
    "spectral_k_support_norm",
    "target_spectrum",
    "total_correlation",
]
