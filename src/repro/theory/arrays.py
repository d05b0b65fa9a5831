"""NumPy arrays where the theory takes tensors."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import torch

P = ParamSpec("P")
R = TypeVar("R")


def takes_arrays(function: Callable[P, R]) -> Callable[P, R]:
    """`function` with each NumPy array among its arguments, or in a list of them, as a tensor of the same numbers.

    What it returns are tensors still, which NumPy and Matplotlib take as arrays.
    """

    @wraps(function)
    def converted(*args: P.args, **kwargs: P.kwargs) -> R:
        values = {name: _tensor(value) for name, value in kwargs.items()}
        return function(*map(_tensor, args), **values)  # type: ignore[arg-type]

    return converted


def _tensor(value: object) -> object:
    if isinstance(value, np.ndarray):
        if (native := value.dtype.newbyteorder("=")) not in (np.float32, np.float64):
            raise ValueError(f"an array must be of float32 or float64, got {value.dtype}")
        # a copy: PyTorch refuses some strides and byte orders, and warns of what may not be written
        return torch.from_numpy(value.astype(native, order="C", copy=True))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple) and any(isinstance(item, np.ndarray | np.generic) for item in value):
        return [_tensor(item) for item in value]
    return value
