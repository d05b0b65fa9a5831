"""A checkpoint: one file, whole or not at all."""

import hashlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch

DIGEST = hashlib.sha256().digest_size
State = Mapping[str, object]  # tensors, numbers, and mappings and lists of them, by name


def save(path: Path | None, code: str, state: State) -> None:
    """Written beside its place and moved there; the last bytes are the SHA-256 of the others. `code` is what `load`
    asks for again. Without a path nothing is written."""
    if path is None:
        return
    content = io.BytesIO()
    torch.save({"code": code, "state": state}, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(content.getbuffer())
        file.write(hashlib.sha256(content.getbuffer()).digest())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load(path: Path | None, code: str) -> State | None:
    """The state that was saved there under the same `code`; None where there is none, or a damaged one."""
    if path is None or not path.is_file():
        return None
    content = path.read_bytes()
    if hashlib.sha256(content[:-DIGEST]).digest() != content[-DIGEST:]:
        print(f"warning: damaged checkpoint {path} is ignored", file=sys.stderr, flush=True)
        return None
    found = torch.load(io.BytesIO(content[:-DIGEST]), map_location="cpu", weights_only=True)
    return cast(State, found["state"]) if found["code"] == code else None
