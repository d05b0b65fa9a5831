"""A run's headline numbers as text."""

from collections.abc import Mapping


def headline(numbers: Mapping[str, float | None]) -> list[str]:
    """`name value` lines, four digits."""
    return [f"{name} {'n/a' if value is None else f'{value:.4g}'}" for name, value in numbers.items()]
