"""How a reader wants the figures of a record: `figure.…` on the command line of `scripts/figures.py`."""

from collections.abc import Sequence
from typing import Annotated

import yaml
from pydantic import ValidationError

from repro.pipeline.settings.config import one_line
from repro.pipeline.settings.fields import OneOrMany, Section, within
from repro.pipeline.system.errors import UserError

MOST_PANELS = 20
"""What a page has room for; of more, a figure shows so many."""
MOST_SERIES = 24
"""What a panel has room for; of more, it shows so many."""


class Look(Section):
    """What `figure.…` sets.

    Attributes:
        width: of a figure, inches; panels wrap at it. None: a column's for one panel, the page's for several.
        font: size of the text, points; what is small in a figure shrinks with it. None: the style's.
        titles: false leaves out the titles of the panels, and prints the notes above a figure instead of drawing them.
        style: a Matplotlib style file, or the name of a style that comes with Matplotlib; on top of ours. Its colours
            (`axes.prop_cycle`) are taken for up to as many series.
        only: names of the figures to draw.
    """

    width: Annotated[float, within("in 1 … 40 (inches)", lambda value: 1 <= value <= 40)] | None = None
    font: Annotated[float, within("in 3 … 40 (points)", lambda value: 3 <= value <= 40)] | None = None
    titles: bool = True
    style: str | None = None
    only: OneOrMany[str] | None = None


def look_of(overrides: Sequence[str]) -> tuple[Look, list[str]]:
    """The look that some of `overrides` ask for, and the others; a `UserError` for one that asks for what is not."""
    given = [text for text in overrides if text.startswith("figure.")]
    raw: dict[str, object] = {}
    for text in given:
        key, equals, value = text.removeprefix("figure.").partition("=")
        if not equals or not value or key in raw:
            raise UserError(f"{text}: an override is key=value, and a key stands there once")
        try:
            raw[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"{text}: the value cannot be read") from None
    try:
        look = Look.model_validate(raw)
    except ValidationError as error:
        known = Look().model_dump() | raw
        raise UserError(one_line(error, {"figure": known}, ("figure",))) from None
    return look, [text for text in overrides if text not in given]
