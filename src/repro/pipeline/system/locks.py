"""A lock that many processes may want and that dies with its owner.

It is `flock` on a hidden file, which the system gives back however a process ends, SIGKILL and power cut included.
Over NFS, Linux turns it into a lock of the server's (NFSv4, or NFSv3 with lockd), so that machines exclude each
other; a crashed machine's locks are free once its lease has run out, about 90 seconds later. Mounted `nolock` or
`local_lock`, every machine has locks of its own: then two machines may compute the same run, and the record of the
first stays.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_held: dict[Path, tuple[int, int]] = {}  # path to (process, thread): whoever holds a lock may take it again


class Taken(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def hold(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds the lock at `path`, making its folder; leaves neither behind, unless something came into the folder.

    Yields True; False where the file system has no locks, so that nothing of others' may be cleared up. Raises `Taken`
    where another process holds it and `wait` is false, an OSError where the file cannot be made.
    """
    path, me = path.absolute(), (os.getpid(), threading.get_ident())
    if _held.get(path) == me:
        yield True
        return
    made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]  # innermost first
    descriptor, locked = _acquire(path, wait)
    _held[path] = me
    try:
        os.listdir(path.parent)  # NFS: what the last owner did is seen only after the folder was opened anew
        yield locked
    finally:
        del _held[path]
        with contextlib.suppress(OSError):
            path.unlink()  # while locked: who waits for it sees in `_acquire` that it is gone
        os.close(descriptor)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # unless something is in it by now


def _acquire(path: Path, wait: bool) -> tuple[int, bool]:
    """The open file, and whether it is locked."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # NFS locks only what is open for writing
        except FileNotFoundError:
            continue  # the last owner has just removed the empty folder
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                    return descriptor, True
        except BlockingIOError:
            os.close(descriptor)
            raise Taken(path) from None
        except OSError:
            return descriptor, False
        except BaseException:  # Ctrl-C while waiting
            os.close(descriptor)
            raise
        os.close(descriptor)  # the last owner has removed this file: another try on the new one
