"""The exceptions that are told in one line: they are not our mistake, and the line says what to do."""

import errno
import sys


class UserError(Exception):
    """A mistake in what was asked for. Its message is one line that names the key, its value and what is
    allowed; the command line prints it to stderr, without a traceback, and exits with code 2."""


class Misfortune(Exception):
    """Something outside has failed: memory, a process, the disk. One line that says what to do, exit code 3."""


class DiskFull(Misfortune):
    """No room for more files: no other run would fare better."""


def disk_is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def say(mistake: UserError | Misfortune, before: str = "") -> None:
    """The one line on stderr."""
    print(f"error: {before}{' '.join(str(mistake).split())}", file=sys.stderr)
