"""Which run a configuration stands for."""

import hashlib
import json
import os
from collections.abc import Mapping

import numpy as np

# Settings that change where results go, what they are called or who watches, never the numbers. `scale` is
# one of them because the sizes that it chose stand in the resolved configuration themselves.
NOT_IN_FINGERPRINT = ("tracking", "results", "force", "other_code", "estimate", "figures", "scale", "title", "paper")


def fingerprint(config: Mapping[str, object]) -> str:
    """12 hexadecimal digits of the SHA-256 of what determines a run's numbers.

    All of `config` except `NOT_IN_FINGERPRINT`, as canonical JSON, with the hashes of `data.content` in place of the
    paths under the same keys: the order of keys does not matter, tuples are lists, and whole floats are integers
    (`p: 1` and `p: 1.0` are the same run), but True is not 1.

    Raises a ValueError while `device` is still "auto" (CPU and GPU runs would share a record) and for a
    number that is not finite; a TypeError for a value that JSON has no form for.
    """
    if config.get("device") == "auto":
        raise ValueError("device is 'auto': resolve it to 'cpu' or 'cuda' before the fingerprint is taken")
    relevant = {key: value for key, value in config.items() if key not in NOT_IN_FINGERPRINT}
    if isinstance(data := relevant.get("data"), Mapping) and isinstance(content := data.get("content"), Mapping):
        relevant["data"] = {key: value for key, value in {**data, **content}.items() if key != "content"}
    text = json.dumps(plain(relevant, canonical=True), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def plain(value: object, *, canonical: bool = False) -> object:
    """`value` from dicts, lists, strings, numbers, booleans and None only; whole floats are integers in `canonical`."""
    if isinstance(value, Mapping):
        return {str(key): plain(item, canonical=canonical) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, canonical=canonical) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if canonical and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a configuration cannot hold {value!r} of type {type(value).__name__}")


def flat(config: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """`{"training": {"steps": 5}}` as `{"training.steps": 5}`."""
    leaves: dict[str, object] = {}
    for key, value in config.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves
