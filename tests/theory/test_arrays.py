"""NumPy arrays in place of tensors in every public function; what is swapped or transposed, where shapes tell."""

import numpy as np
import pytest
import torch

from repro import theory

DRAW = np.random.default_rng(0).standard_normal
U, V, X, Y = DRAW((3, 6)), DRAW((4, 6)), DRAW((4, 9)), DRAW((3, 9))
W = [DRAW((5, 4)), DRAW((6, 5)), DRAW((3, 6))]
VALUES = np.sort(np.abs(DRAW(7)))[::-1]  # its strides are negative
POSITIVE = np.abs(DRAW(4)) + 0.1
CALLS = {
    "apportioned_spectrum": (VALUES, 2, 8, 3.0),
    "best_rotation": (X @ X.T, POSITIVE),
    "blocks_needed": (VALUES, 2, 0.3),
    "collapse_onset": (VALUES, 2),
    "critical_penalty": (VALUES,),
    "critical_retain": (VALUES, [6, 5]),
    "deep_dropout_regularizer": (W, X, 0.5),
    "dropblock_objective": (U, V, X, Y, 2, np.float64(0.5)),
    "dropconnect_objective": (U, V, X, Y, 0.5, "V"),
    "effective_rank": (VALUES,),
    "equal_blocks": (np.kron(np.eye(3), np.ones((2, 2))),),
    "error_auc": (POSITIVE, np.float64(0.5)),
    "error_share": (POSITIVE,),
    "expected_objective": (U, V, X, Y, np.full(6, 0.5), np.eye(6) / 4),
    "gentleness": (np.float64(0.1), 0.9, 0.05, 2.5e-4),
    "global_minimizer": (Y, X, np.int64(2), np.array(0.7)),
    "importance": (POSITIVE, "linear", 1.0, 0.1, np.float64(0.5)),
    "induced_penalty": ([6, 5], np.array([0.3, 0.5])),
    "k_support_norm": (VALUES, 2),
    "kl_empirical_bayes": (POSITIVE, POSITIVE, POSITIVE, 3),
    "kl_hierarchical": (U.T[:4], np.ones((4, 3)), POSITIVE, POSITIVE, POSITIVE, 0.5, 0.7),
    "kl_log_uniform": (POSITIVE, 3),
    "kl_normal": (U.T[:4], POSITIVE, POSITIVE, POSITIVE, np.float64(0.5)),
    "landmark_errors": (U, U[::-1]),
    "minimum_value": (VALUES, 2, np.float32(0.5)),
    "noise_gram": (U, V, X),
    "optimal_rates": (POSITIVE, 3, 0.5),
    "penalized_minimizer": (X @ X.T, POSITIVE, np.array(0.3)),
    "prox_squared_k_support": (VALUES, 2, 0.5),
    "rank_one_minimizer": (Y, X, [6, 5], 0.05),
    "regularizer_bound": (tuple(W), X, np.array([0.3, 0.5])),
    "retain_probability": (np.array([0.3, 0.9]), 8, 2),
    "shrink_singular_values": (VALUES, 2, 0.5),
    "shrinkage": (POSITIVE, np.array(0.3)),
    "spectral_k_support_norm": (X, 2),
    "target_spectrum": (Y, X),
    "total_correlation": (X @ X.T,),
}


def as_tensors(value):
    if isinstance(value, np.ndarray):
        return torch.tensor(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    return [as_tensors(item) for item in value] if isinstance(value, list | tuple) else value


def test_every_public_function_is_tried():
    assert set(CALLS) == {name for name in theory.__all__ if not isinstance(getattr(theory, name), type)}


@pytest.mark.parametrize("name", CALLS)
def test_arrays_are_tensors(name):
    function, given = getattr(theory, name), CALLS[name]
    found, expected = function(*given), function(*as_tensors(given))
    assert type(found) is type(expected)
    for mine, theirs in zip(*((x,) if not isinstance(x, tuple) else x for x in (found, expected)), strict=True):
        assert not isinstance(mine, np.ndarray)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
def test_arrays_of_any_layout(dtype):
    array = VALUES.astype(dtype)[::2]
    array.setflags(write=False)
    expected = theory.effective_rank(torch.tensor(array.astype(array.dtype.newbyteorder("="))))
    assert theory.effective_rank(singular_values=array) == expected
    assert array.dtype == dtype


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("spectral_k_support_norm", (np.eye(3, dtype=int), 1), "an array must be of float32 or float64, got int64"),
        ("effective_rank", (np.array(["a"]),), "an array must be of float32 or float64, got <U1"),
        ("target_spectrum", (Y.T, X.T), r"got shape \(9, 3\); samples are columns: transpose Y and X$"),
        ("global_minimizer", (Y.T, X.T, 1, 0.5), "samples are columns: transpose Y and X$"),
        ("target_spectrum", (Y, X[:3, :8]), r"got shape \(3, 9\)$"),  # as many rows, which are not samples
        ("dropblock_objective", (U, V, Y, X, 1, 0.5), "X and Y, or U and V, are swapped$"),
        ("dropblock_objective", (V, U, X, Y, 1, 0.5), "X and Y, or U and V, are swapped$"),
        ("dropconnect_objective", (U, V, X.T, Y.T, 0.5), "samples are columns: transpose Y and X$"),
        ("dropblock_objective", (U, V, X[:2], Y, 1, 0.5), r"got shape \(2, 9\)$"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(name, given, message):
    with pytest.raises(ValueError, match=message) as error:
        getattr(theory, name)(*given)
    assert "\n" not in str(error.value)
