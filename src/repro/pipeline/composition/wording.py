"""Keys and values in the words of a message."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping


def dotted_keys(raw: object, prefix: str = "") -> Iterator[str]:
    """The dotted keys of all values in nested dicts, inner nodes included."""
    if isinstance(raw, Mapping):
        for key, value in raw.items():
            yield f"{prefix}{key}"
            yield from dotted_keys(value, f"{prefix}{key}.")


def nearest(name: str, known: list[str]) -> str:
    """ "; did you mean …?" for a near miss, else nothing: a key beside it in its group, compared without the group's
    name, another whole key, or the last part of one, as `block_sise` finds `dropout.block_size`."""
    group, _, tail = name.rpartition(".")
    tails = {key.rpartition(".")[2]: key for key in reversed(known)}
    beside = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == group}
    elsewhere = {key: key for key in known if key not in beside.values()}
    for word, candidates, cutoff in ((tail, beside, 0.75), (name, elsewhere, 0.85), (tail, tails, 0.85)):
        if near := difflib.get_close_matches(word, list(candidates), n=1, cutoff=cutoff):
            return f"; did you mean {candidates[near[0]]}?"
    return ""


def shown(value: object) -> str:
    """A value as one would type it."""
    if isinstance(value, str) and value and not re.fullmatch(r"[\d.+-]+", value):
        return value
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def first_line(error: BaseException) -> str:
    """What an error says, without its details; with the second line where the first ends in a colon."""
    text = str(error).strip() or str(error.__cause__ or "").strip() or type(error).__name__
    first, *rest = text.splitlines()
    return f"{first} {rest[0]}" if first.endswith(":") and rest else first
