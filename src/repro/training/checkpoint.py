"""A checkpoint: one file, whole or not at all, of the code that may go on from it."""

import hashlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

DIGEST = hashlib.sha256().digest_size
State = Mapping[str, object]  # tensors, numbers, and mappings and lists of them, by name


def save(path: Path, code: str, state: State, previous: Path | None = None) -> None:
    """Written beside its place and moved there, the one before to `previous`: a crash leaves one of them whole. The
    last bytes are the SHA-256 of the others. `code` is what `load` asks for again."""
    content = io.BytesIO()
    torch.save({"code": code, **state}, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(content.getbuffer())
        file.write(hashlib.sha256(content.getbuffer()).digest())
        file.flush()
        os.fsync(file.fileno())
    if previous is not None and path.exists():
        path.replace(previous)
    temporary.replace(path)


def load(path: Path, code: str) -> State | None:
    """The state that was saved there under the same `code`; None where there is none, or a damaged one, which goes."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    if hashlib.sha256(content[:-DIGEST]).digest() != content[-DIGEST:]:
        print(f"warning: damaged checkpoint {path} is ignored", file=sys.stderr, flush=True)
        path.unlink(missing_ok=True)  # else it would become the one before
        return None
    found: State = torch.load(io.BytesIO(content[:-DIGEST]), map_location="cpu", weights_only=True)
    return found if found["code"] == code else None
