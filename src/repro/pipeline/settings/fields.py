"""The types of settings: what may be one value or a list of them, in which range, and what is refused."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Item = TypeVar("Item")


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _unlike(values: tuple[Item, ...]) -> tuple[Item, ...]:
    if twice := next((value for i, value in enumerate(values) if value in values[:i]), None):
        raise ValueError(f"names {twice} twice; every value may stand there once")
    return values


def within(allowed: str, holds: Callable[[float], bool]) -> AfterValidator:
    """A range named whole, where pydantic would name only the end that is crossed."""

    def check(value: float) -> float:
        if not holds(value):
            raise ValueError(f"must lie {allowed}")
        return value

    return AfterValidator(check)


OneOrMany = Annotated[
    tuple[Item, ...], Field(min_length=1, strict=False), BeforeValidator(_listed), AfterValidator(_unlike)
]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Probability = Annotated[float, within("in (0, 1)", lambda value: 0 < value < 1)]
Correlation = Annotated[float, within("in (-1, 1)", lambda value: -1 < value < 1)]


class Section(BaseModel):
    """Base of every part: no unknown keys, no silent conversion ("3" is not 3), no change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def ignored(self) -> dict[str, str]:
        """Dotted keys that have no effect on this run, and why: a user who sets one of them is told so."""
        return {}
