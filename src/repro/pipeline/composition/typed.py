"""What is typed behind a script's name, looked at before Hydra reads it."""

from collections.abc import Iterable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from repro.pipeline.system.errors import UserError, is_invisible, visible

NOTHING = ("None", "none", "NONE", "nil")
"""What null is called elsewhere."""


def once(overrides: Sequence[str]) -> list[str]:
    """The overrides, each one once; a `UserError` for a key with two values, of which Hydra would take the last."""
    first: dict[str, str] = {}
    for text in overrides:
        key = key_of(text)
        if (before := first.setdefault(key, text)) != text:
            raise UserError(f"{visible(text)}: {key} is given twice, {visible(before)} stands there too")
    return list(dict.fromkeys(overrides))


def key_of(text: str) -> str:
    return text.lstrip("+~").partition("=")[0]


def parsed(overrides: Iterable[str]) -> list[Override]:
    """By Hydra's grammar; a `UserError` for one that it cannot read, which says how to write it."""
    parser = OverridesParser.create()
    found = []
    for text in overrides:
        try:
            found.append(parser.parse_override(text))
        except HydraException as error:
            raise UserError(f"{visible(text)}: {_unreadable(text, parser)}") from error
    return found


def _unreadable(text: str, parser: OverridesParser) -> str:
    if hidden := [visible(character) for character in dict.fromkeys(text) if is_invisible(character)]:
        return f"{', '.join(hidden)} in it cannot be seen, and is no part of an override; type it without"
    key, equals, value = text.partition("=")
    if not equals:
        return "not an override; an override is key=value, as in seed=3"
    if key != key.strip():
        return f"no space before the =, as in {key.strip()}={value.strip()}"
    quoted = in_quotes(key, value)
    try:
        parser.parse_override(quoted.strip("'"))
    except HydraException:
        return "the value cannot be read; an override is key=value, as in seed=3"
    return f"the value cannot be read; an override is key=value, as in seed=3, and text with such signs {quoted}"


def in_quotes(key: str, value: str) -> str:
    """How to type a value that Hydra's grammar has a meaning for: in quotes of Hydra's within the shell's."""
    return f"""'{key}="{value.strip("'" + '"')}"'"""
