"""Checks of arguments shared by the theory: a ValueError names the argument, its value and what is allowed.

Functions that take several matrices annotate them `Float[Tensor, "..."]` and give the shapes in their
docstrings: a shape checker in the signature would answer before these checks do.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor

SUPPORTED_DTYPES = (torch.float32, torch.float64)
Number = int | float | Tensor


_looks = ContextVar("looks", default=True)


@contextmanager
def without_looking() -> Iterator[None]:
    """Within, checks of dtypes and shapes hold, and values are not looked at: a GPU would be waited for at each."""
    token = _looks.set(False)
    try:
        yield
    finally:
        _looks.reset(token)


def looks() -> bool:
    """Whether values are looked at here."""
    return _looks.get()


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise unless `tensor` is float32 or float64 and without NaN or infinity."""
    if tensor.dtype not in SUPPORTED_DTYPES:
        raise ValueError(f"{name} must be float32 or float64, got {tensor.dtype}")
    if not looks():
        return
    # One pass and one number to the host; a finite sum has finite terms. Only an overflow needs the long way.
    if math.isfinite(tensor.detach().sum().item()):
        return
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ValueError(f"{name} must be finite, got {bad} NaN or infinite of {tensor.numel()} entries")


def check_vectors(name: str, tensor: Tensor) -> None:
    """Raise unless `tensor` is a finite (*batch, n) with n >= 1."""
    if tensor.ndim < 1 or tensor.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (*batch, n) with n >= 1, got {tuple(tensor.shape)}")
    check_finite(name, tensor)


def check_matrices(**matrices: Tensor) -> None:
    """Raise unless all are finite (*batch, rows, columns) of one dtype whose batch dimensions broadcast."""
    first, *_ = matrices
    for name, matrix in matrices.items():
        if matrix.ndim < 2 or 0 in matrix.shape[-2:]:
            shape = tuple(matrix.shape)
            raise ValueError(f"{name} must have shape (*batch, rows, columns), neither of them 0, got {shape}")
        check_finite(name, matrix)
        if matrix.dtype != matrices[first].dtype:
            raise ValueError(f"{name} must have the dtype of {first}, {matrices[first].dtype}, got {matrix.dtype}")
    check_batches(**{name: tuple(matrix.shape[:-2]) for name, matrix in matrices.items()})


def check_batches(**batches: tuple[int, ...]) -> None:
    """Raise unless the batch shapes broadcast against each other."""
    try:
        np.broadcast_shapes(*batches.values())
    except ValueError:
        found = ", ".join(f"{name} {shape}" for name, shape in batches.items())
        raise ValueError(f"batch dimensions must broadcast against each other, got {found}") from None


def check_size(
    name: str, tensor: Tensor, dim: int, other_name: str, other: Tensor, other_dim: int, hint: str = ""
) -> None:
    """Raise unless dimension `dim` of a tensor is as long as `other_dim` of the other; `hint` says what may be why."""
    size, expected = tensor.shape[dim], other.shape[other_dim]
    if size != expected:
        raise ValueError(
            f"{name} must have {expected} entries in dimension {dim} to match {other_name} of shape "
            f"{tuple(other.shape)}, got shape {tuple(tensor.shape)}{hint}"
        )


def check_samples(Y: Tensor, X: Tensor) -> None:
    """Raise unless Y and X have as many columns, the samples."""
    rows = Y.shape[-2] == X.shape[-2] > max(Y.shape[-1], X.shape[-1])
    check_size("Y", Y, -1, "X", X, -1, "; samples are columns: transpose Y and X" if rows else "")


def check_support(name: str, value: int, largest: int) -> None:
    """Raise unless 1 <= value <= largest."""
    if not 1 <= value <= largest:
        raise ValueError(f"{name} must be in 1..{largest}, got {value}")


def check_blocks(width: int, block_size: int) -> None:
    """Raise unless `width` is a positive multiple of a positive `block_size`."""
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1 and divide the width {width}, got {block_size}")
    if width % block_size:
        raise ValueError(f"width must be a multiple of block_size {block_size}, got {width}")


def check_probability(name: str, value: Number) -> None:
    """Raise unless every value lies strictly between 0 and 1."""
    inside = (value > 0) & (value < 1)
    if not (inside.all() if isinstance(inside, Tensor) else inside):
        raise ValueError(f"{name} must be in (0, 1), ends excluded, got {_shown(value)}")


def check_weight(name: str, value: Number) -> None:
    """Raise unless every value is finite and at least 0."""
    allowed = (value >= 0) & (value < math.inf)
    if not (allowed.all() if isinstance(allowed, Tensor) else allowed):
        raise ValueError(f"{name} must be in [0, inf), got {_shown(value)}")


def per_matrix(value: Number, like: Tensor) -> Number:
    """A parameter, one number or one for each batch entry, in the dtype and on the device of `like`."""
    return value.to(like) if isinstance(value, Tensor) else value


def _shown(value: Number) -> str:
    if not isinstance(value, Tensor):
        return str(value)
    if value.numel() == 1:
        return str(value.item())
    return f"values from {value.min().item()} to {value.max().item()}"
