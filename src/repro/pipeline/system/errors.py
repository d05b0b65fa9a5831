"""The exceptions that are told in one line: they are not our mistake, and the line says what to do."""

import errno
import sys
import unicodedata


class UserError(Exception):
    """A mistake in what was asked for. Its message is one line that names the key, its value and what is
    allowed; the command line prints it to stderr, without a traceback, and exits with code 2."""


class Misfortune(Exception):
    """Something outside has failed: memory, a process, the disk. One line that says what to do, exit code 3."""


class DiskFull(Misfortune):
    """No room for more files: no other run would fare better."""


def disk_is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def visible(text: str) -> str:
    """`text` with what nobody sees written out: `\\r`, `\\t`, <U+00A0>, <U+200B>."""
    return "".join(_shown(character) if is_invisible(character) else character for character in text)


def is_invisible(character: str) -> bool:
    """Whether it looks like a space and is none, or like nothing: controls, formats, other spaces, blank letters."""
    kind = unicodedata.category(character)
    return character != " " and (kind in ("Cc", "Cf", "Zs", "Zl", "Zp") or character in "\u115f\u1160\u2800\u3164")


def _shown(character: str) -> str:
    return {"\r": "\\r", "\n": "\\n", "\t": "\\t"}.get(character) or f"<U+{ord(character):04X}>"


def say(mistake: UserError | Misfortune, before: str = "") -> None:
    """The one line on stderr."""
    words = str(mistake).replace("\n", " ").split(" ")
    print(f"error: {before}{visible(' '.join(word for word in words if word))}", file=sys.stderr)
