"""The noise that an experiment is asked for: a grid over schemes, block sizes and rates."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import ClassVar, Literal

from pydantic import ConfigDict, model_validator

from repro.pipeline.composition.wording import nearest
from repro.pipeline.settings import Count, OneOrMany, Probability, Section
from repro.pipeline.settings.groups import find, options_of, ours, unknown

Blocks = Literal["none", "disjoint", "overlapping"]


class Noise(Section):
    """Base of each scheme's `Settings`; its further fields are the scheme's own parameters, keys of `dropout`."""

    scheme: str
    blocks: ClassVar[Blocks] = "none"

    @property
    def target(self) -> Literal["hidden", "U", "V"]:
        """What the masks multiply."""
        return "hidden"

    def fit(self, width: int) -> None:
        """Raises a ValueError where the scheme's own parameters do not fit a model of so many units."""


class Dropout(Section):
    """A grid over schemes, block sizes and one of the two probabilities.

    `p` is the retain probability that one block alone would have; θ = p / (p + (width / block_size)(1 − p))
    follows from it. `retain` is θ itself. A further key is a parameter of one of the schemes.
    """

    model_config = ConfigDict(extra="allow")

    scheme: OneOrMany[str]
    block_size: OneOrMany[Count]
    p: OneOrMany[Probability] | None
    retain: OneOrMany[Probability] | None

    @model_validator(mode="after")
    def _one_probability(self) -> "Dropout":
        if self.p is not None and self.retain is not None:
            raise ValueError("p and retain are both given, and one follows from the other; leave one out")
        if self.p is None and self.retain is None:
            raise ValueError("neither p nor retain is given; set one of them to a number in (0, 1)")
        return self

    @model_validator(mode="after")
    def _only_what_counts(self) -> "Dropout":
        """Without what these schemes ignore, and complete: what is recorded depends on nothing but the noise."""
        ignored = self.ignored()
        known = {*_parameters_of(*map(_kind, self.scheme)), *ignored}
        if strange := next((key for name in self.model_extra or {} if (key := f"dropout.{name}") not in known), None):
            known |= {f"dropout.{name}" for name in type(self).model_fields}
            raise ValueError(f"{strange}: unknown key{nearest(strange, sorted(known)) or '; --help lists all keys'}")
        complete = {name: value for noise in self.noises() for name, value in noise if name != "scheme"}
        object.__setattr__(self, "__pydantic_extra__", complete)
        if "dropout.block_size" in ignored:
            object.__setattr__(self, "block_size", (1,))
        return self

    def noises(self) -> tuple[Noise, ...]:
        """The settings of each scheme, in order."""
        given = self.model_extra or {}
        return tuple(
            kind.model_validate({"scheme": name} | {key: given[key] for key in kind.model_fields if key in given})
            for name, kind in zip(self.scheme, map(_kind, self.scheme), strict=True)
        )

    def rates(self) -> tuple[float, ...]:
        """p or retain, whichever is given."""
        return self.p or self.retain or ()

    def points(self) -> Iterator[tuple[Noise, int, float]]:
        """The grid: noise, block size (1 where it has no blocks) and rate."""
        for noise in self.noises():
            yield from product((noise,), (1,) if noise.blocks == "none" else self.block_size, self.rates())

    def fit(self, width: int) -> None:
        """That the blocks fit a model of so many units.

        Raises:
            ValueError: disjoint blocks, or any where p is given, that do not divide the width; blocks above it; what
                a scheme itself refuses.
        """
        blocks = {noise.blocks for noise in self.noises()} - {"none"}
        for size in self.block_size if blocks else ():
            if width % size and ("disjoint" in blocks or self.p):
                divisors = ", ".join(str(r) for r in range(1, width + 1) if width % r == 0)
                raise ValueError(f"dropout.block_size={size}: must divide model.width={width}; allowed: {divisors}")
            if size > width:
                raise ValueError(f"dropout.block_size={size}: must be at most model.width={width}")
        for noise in self.noises():
            noise.fit(width)

    def only(self, experiment: str, takes: Callable[[Noise], bool]) -> None:
        """That an experiment takes all of these schemes.

        Raises:
            ValueError: it does not; names the options that it takes.
        """
        if other := next((noise.scheme for noise in self.noises() if not takes(noise)), None):
            kinds = ((name, kind) for name, kind in ours("dropout").items() if issubclass(kind, Noise))
            taken = [name for name, kind in kinds if takes(kind.model_construct(scheme=name))]
            raise ValueError(f"dropout.scheme={other}: {experiment} takes {options_of('dropout', 'scheme', taken)}")

    def ignored(self) -> dict[str, str]:
        """The keys that have no effect with these schemes, and why."""
        kinds, names = [_kind(scheme) for scheme in self.scheme], ", ".join(self.scheme)
        others = _parameters_of(*ours("dropout").values()) - _parameters_of(*kinds)
        found = {key: f"not a parameter of {names}" for key in sorted(others)}
        if all(kind.blocks == "none" for kind in kinds):
            found["dropout.block_size"] = f"no blocks in {names}"
        return found


def _kind(scheme: str) -> type[Noise]:
    """The settings of a scheme: one of ours, or of the user's module of that name."""
    found = find("dropout", scheme)
    if found is None or not issubclass(found, Noise):
        raise ValueError(f"dropout.scheme={scheme}: {unknown(scheme, list(ours('dropout')))}")
    return found


def _parameters_of(*kinds: type[Section]) -> set[str]:
    return {f"dropout.{name}" for kind in kinds for name in kind.model_fields} - {"dropout.scheme"}
