"""The groups of a configuration, and the kinds of each: found by name in our folder of it, or in a user's module.

A kind is a package `repro/<group>/<folder>/` whose light `__init__` has a `Settings` and whose other modules do the
work; or one module of the user's with both. `Settings` names the kinds that it takes in the Literal of its first field.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from inspect import signature
from types import ModuleType
from typing import Annotated, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import GetCoreSchemaHandler, SerializeAsAny
from pydantic_core import CoreSchema, core_schema

from repro.pipeline.composition.files import options_with
from repro.pipeline.composition.wording import nearest, shown
from repro.pipeline.settings.fields import Section
from repro.pipeline.system.errors import UserError

Part = TypeVar("Part", bound=Section)
PACKAGE = __name__.partition(".")[0]
FOLDERS = {"model": "models"}  # where the folder has another name than the group


class Data(Section):
    """Base of what is learned from."""

    kind: str

    @property
    def content(self) -> dict[str, str]:
        """A hash of what lies there, for each key that names a user's files: the run is known by it, and not by the
        path; a file that changes is another run, one that moves is the same."""
        return {}


class Model(Section):
    """Base of what is trained."""

    kind: str


class Training(Section):
    """Base of how it is trained."""

    ROUNDING: ClassVar[float] = 0.01
    """Two machines round differently, and training amplifies that: by this fraction of a curve's maximum."""
    BATCHED: ClassVar[bool] = False
    """Whether the cells of a grid train as one batch, and not one by one."""
    ON_GPU: ClassVar[bool] = True
    """Whether it computes on `device`, and not on the CPU whatever there is."""

    kind: str

    @property
    def layout(self) -> tuple[int, int]:
        """Devices on a machine and machines of one data-parallel training."""
        return 1, 1

    @property
    def world_size(self) -> int:
        """The processes of one data-parallel training."""
        return self.layout[0] * self.layout[1]

    @property
    def smaller(self) -> str:
        """What to change where memory runs out."""
        return "fewer cells (seed, dropout.p, dropout.block_size)"


def module_named(path: str) -> ModuleType | None:
    """A module by its dotted path; None where there is none of that name. One that fails by itself is our mistake or
    the user's, and shows its traceback."""
    if not re.fullmatch(r"\w+(\.\w+)*", path):
        return None
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        return None


@cache
def ours(group: str) -> dict[str, type[Section]]:
    """The kinds of `repro/<group>/` by name, sorted, each with its settings."""
    package = importlib.import_module(f"{PACKAGE}.{FOLDERS.get(group, group)}")
    found: dict[str, type[Section]] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if module.ispkg and (settings := getattr(importlib.import_module(module.name), "Settings", None)):
            found |= dict.fromkeys(names_of(settings), settings)
    return dict(sorted(found.items()))


def names_of(settings: type[Section]) -> tuple[str, ...]:
    """The kinds that a class of settings takes; none where it takes any text."""
    annotation = settings.model_fields[next(iter(settings.model_fields))].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def find(group: str, name: object) -> type[Section] | None:
    """The settings of a kind: one of ours, or of the module that `name` is the path of."""
    if not isinstance(name, str) or not name:
        return None
    if (kind := ours(group).get(name)) is not None:
        return kind
    settings = getattr(module_named(name), "Settings", None)
    own = isinstance(settings, type) and issubclass(settings, Section) and settings.__module__ == name
    return settings if own else None


def unknown(name: object, allowed: Sequence[str]) -> str:
    """`must be one of …`, with the nearest one, or why a module of that name is none."""
    why = ""
    if isinstance(name, str) and not (why := nearest(name, list(allowed))):
        there = module_named(name) is not None
        why = (
            f"; the Python module {name} lacks Settings of its own" if there else f"; no Python module is named {name}"
        )
    return f"must be one of {', '.join(allowed)}{why}"


def options_of(group: str, key: str, kinds: Sequence[str]) -> str:
    """`group=…`, our options for some kinds; where there are none, as for a user's own, the kinds themselves."""
    if options := options_with(group, key, kinds):
        return f"{group}={', '.join(options)}"
    return f"{group}.{key}={', '.join(kinds)}" if kinds else f"no {group} of ours"


class _ByKind:
    """Validates a field as the settings of the kind that it names, which must be of the field's own type."""

    def __get_pydantic_core_schema__(self, base: type[Section], handler: GetCoreSchemaHandler) -> CoreSchema:
        def validate(value: object, inner: Callable[[object], object], group: str, experiment: object) -> object:
            if not isinstance(value, dict) or "kind" not in value:
                return inner(value)
            kind = value.get("kind")
            settings = find(group, kind)
            if settings is not None and issubclass(settings, base):
                return settings.model_validate(value)
            taken = [name for name, kinds in ours(group).items() if issubclass(kinds, base)]
            if settings is None:
                raise ValueError(f"{group}.kind={shown(kind)}: {unknown(kind, taken)}")
            taken = taken or list(names_of(base))
            raise ValueError(f"{group}.kind={shown(kind)}: {experiment} takes {options_of(group, 'kind', taken)}")

        return core_schema.with_info_wrap_validator_function(
            lambda value, inner, info: validate(value, inner, str(info.field_name), info.data.get("name")),
            handler(base),
        )


Found = Annotated[Part, _ByKind(), SerializeAsAny()]
"""`Found[Base]`: a field for any kind of the group of its name whose settings are a `Base`."""


def implementation(settings: Section, name: str) -> Callable[..., object]:
    """The function `name` that does what `settings` ask for: in the submodule of that name, for a package of ours, or
    beside the settings, in a module of the user's."""
    return function(importlib.import_module(type(settings).__module__), name)


def bound(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    """A function of a kind with its arguments, to be called; a `UserError` where it does not take so many."""
    try:
        signature(function).bind(*arguments)
    except TypeError as error:
        where = f"{function.__module__}.{function.__name__}"
        raise UserError(f"{where} is called with {len(arguments)} arguments: {error}") from None
    return partial(function, *arguments)


def function(
    module: ModuleType, place: str, name: str = "", otherwise: Callable[..., object] | None = None
) -> Callable[..., object]:
    """The function `name` (or `place`) of the submodule `place` of a package, or of a module without submodules; a
    `UserError` where there is none, and nothing that would do `otherwise`."""
    if hasattr(module, "__path__") and (inner := module_named(f"{module.__name__}.{place}")) is not None:
        module = inner
    found = getattr(module, name or place, otherwise)
    if not callable(found):
        raise UserError(f"{module.__name__} lacks the function {name or place}")
    return found
