"""What lies in a user's files, in one hash: the same wherever they lie, another where one of them changes."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from repro.pipeline.system.errors import UserError

PATIENCE = 1.0  # seconds of reading from which on it is worth remembering what was read


def content_of(key: str, root: Path, files: Iterable[Path], folders: Iterable[Path] = ()) -> str:
    """SHA-256 over the names below `root` and the content of `files`, and the names of `folders`.

    A file whose size and times are those of the last look is not read again: where reading took long, the hashes of
    the files are kept in the user's cache folder (`$XDG_CACHE_HOME`, `~/.cache`).

    Raises:
        UserError: there is no folder `root`, or a file in it cannot be read; names the setting `key`.
    """
    if not root.is_dir():
        raise UserError(f"{key}={root}: there is no such folder")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    memory = Path(cache, "repro", f"content-{hashlib.sha256(bytes(root.resolve())).hexdigest()[:12]}.json")
    known: dict[str, list[object]] = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(memory.read_text(encoding="utf-8"))
    found: dict[str, list[object]] = {}
    started = time.monotonic()
    for file in files:
        name = file.relative_to(root).as_posix()
        try:
            state = file.stat()
            times = [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
            before = known.get(name, [])
            if before[:-1] != times:
                with file.open("rb") as opened:
                    before = [*times, hashlib.file_digest(opened, "sha256").hexdigest()]
        except OSError as error:
            raise UserError(f"{key}={root}: {name} cannot be read ({error.strerror})") from None
        found[name] = before
    if time.monotonic() - started > PATIENCE and found != known:
        with contextlib.suppress(OSError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            temporary = memory.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(found), encoding="utf-8")
            temporary.replace(memory)
    lines = [f"{name} {hashes[-1]}\n" for name, hashes in found.items()]
    lines += [f"{folder.relative_to(root).as_posix()}/\n" for folder in folders]
    return hashlib.sha256("".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()
