"""What goes wrong outside the program, in one line that says what to do."""

import contextlib
import errno
import os
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from repro.pipeline.settings import Config
from repro.pipeline.system.errors import DiskFull, Misfortune, UserError, disk_is_full

_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


@contextlib.contextmanager
def misfortunes(config: Config) -> Iterator[None]:
    """Tells what goes wrong outside the program in one line: a `UserError` where the results folder may not be written,
    `DiskFull`, or a `Misfortune` where memory has run out, or a training process was killed."""
    try:
        yield
    except OSError as error:
        where, reason = f"results={config.results}", os.strerror(error.errno or 0)
        mine, named = Path(config.results).absolute(), Path(str(error.filename or config.results)).absolute()
        if disk_is_full(error):
            raise DiskFull(
                f"{where}: the disk is full ({reason}); free some space or name another folder, then the same command "
                "goes on from here"
            ) from error
        refused = error.errno in _REFUSED or (error.errno == errno.ENOENT and not mine.exists())
        if refused and (mine in (named, *named.parents) or named in mine.parents):
            raise UserError(f"{where}: cannot be written ({reason}); name another folder") from error
        raise
    except BrokenProcessPool as error:
        raise Misfortune(
            f"{config.name}: a training process was killed, by the system if memory ran out; training.processes=1 "
            "takes least, and the same command goes on from the last epoch"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
            width = getattr(config.model, "width", None)
            less = ", ".join(filter(None, (config.training.smaller, f"model.width below {width}" if width else "")))
            less += ", or device=cpu" if config.device == "cuda" else ""
            raise Misfortune(f"{config.name}: out of memory on device={config.device}; smaller: {less}") from error
        raise
