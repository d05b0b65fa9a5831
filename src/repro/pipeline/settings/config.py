"""A run's configuration: what `conf/` and the command line composed, checked by what the experiment takes."""

from collections.abc import Mapping
from types import ModuleType
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field, SerializeAsAny, ValidationError

from repro.pipeline.composition.files import PAPERS
from repro.pipeline.composition.wording import dotted_keys, nearest, shown
from repro.pipeline.settings.fields import Count, OneOrMany, Section, Seed
from repro.pipeline.settings.groups import PACKAGE, Data, Found, Model, Training, module_named
from repro.pipeline.system.errors import UserError


def _name_there(name: str) -> str:
    if not 1 <= len(name) <= 128 or set(name) & set(REFUSED_THERE):
        raise ValueError(f"must be 1 … 128 characters, for W&B, and none of {' '.join(REFUSED_THERE)}")
    return name


REFUSED_THERE = "/\\#?%:"
NameThere = Annotated[str, AfterValidator(_name_there)]


class Tracking(Section):
    """Weights & Biases. The limits of names are its own (wandb_settings.py): they would fail when a run is uploaded."""

    mode: Literal["offline", "online", "disabled"]
    project: NameThere
    entity: NameThere | None


class Config(Section):
    """One run, complete and checked. An experiment narrows the groups to what it takes, and names its options.

    `UNUSED`: groups that it has no use for, and why; who sets one of their keys is told.
    """

    UNUSED: ClassVar[Mapping[str, str]] = {}

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=64)]  # a tag of W&B's has no more
    module: str
    title: str
    paper: Annotated[str, Field(min_length=1)]
    scale: Literal["smoke", "cpu", "gpu"]
    seed: OneOrMany[Seed]
    device: Literal["cpu", "cuda"]
    threads: Count | None
    force: bool
    other_code: Literal["rerun", "accept"]
    estimate: bool
    figures: bool
    results: Annotated[str, Field(min_length=1)]
    data: Found[Data]
    model: Found[Model]
    dropout: SerializeAsAny[Section]
    training: Found[Training]
    options: SerializeAsAny[Section]
    tracking: Tracking

    @property
    def cells(self) -> int:
        """How many cells of its grid may be computed apart; 1 for a grid that is not cut."""
        return 1

    @property
    def drawn(self) -> tuple[int, int]:
        """How many panels its largest figure has, and series its fullest panel, where all of them are drawn. Before it
        runs, a run says for how many there is room (`look`)."""
        return 1, 1

    @property
    def networks(self) -> int:
        """How many networks its grid has."""
        return self.cells

    def ignored(self) -> dict[str, str]:
        parts = (getattr(self, name) for name in type(self).model_fields)
        found = {key: why for part in parts if isinstance(part, Section) for key, why in part.ignored().items()}
        for group, why in self.UNUSED.items():
            part: Section = getattr(self, group)
            found |= dict.fromkeys([group, *(f"{group}.{key}" for key in part.model_dump())], why)
        return found

    def plain(self) -> dict[str, object]:
        """The configuration as dicts, lists, strings and numbers: what is recorded and fingerprinted. `data.content`
        has the hashes of a user's files, where there are any."""
        plain = self.model_dump(mode="json")
        return plain | {"data": plain["data"] | {"content": self.data.content}} if self.data.content else plain


def module_of(name: str) -> ModuleType:
    """The module of an experiment: by its name in one of our papers, or by its path elsewhere."""
    found = sorted(path.parent.parent.name for path in PAPERS.glob(f"*/{name}/__init__.py") if name.isidentifier())
    path = f"{PACKAGE}.papers.{found[0]}.{name}" if found else name
    if (module := module_named(path)) is None:
        raise UserError(f"module={name}: there is no Python module {path}")
    return module


_MUST = {  # what a value must, by the type of pydantic's error
    "int_type": "be an integer",
    "int_from_float": "be an integer",
    "float_type": "be a number",
    "bool_type": "be true or false",
    "string_type": "be text",
    "finite_number": "be a finite number",
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "be a group of settings"),
    "greater_than": "be greater than {gt}",
    "greater_than_equal": "be at least {ge}",
    "less_than": "be less than {lt}",
    "less_than_equal": "be at most {le}",
    "string_pattern_mismatch": "be lower-case letters, digits and _",
    "string_too_long": "have at most {max_length} characters",
    "too_short": "have {min_length} or more values",
}


def one_line(error: ValidationError, raw: Mapping[str, object], base: tuple[str, ...] = ()) -> str:
    """The first of pydantic's errors as `key=value: what is allowed`."""
    first = error.errors()[0]
    kind, context, value = first["type"], first.get("ctx", {}), first["input"]
    key = _key(raw, (*base, *first["loc"]))
    if kind == "extra_forbidden":
        known = [other for other in dotted_keys(raw) if other != key]
        return f"{key}: unknown key{nearest(key, known) or '; --help lists all keys'}"
    if kind == "missing":
        return f"{key}: is not set, and has no default"
    if kind == "value_error":
        message = str(context["error"])
        named = message.partition(":")[0].partition("=")[0]  # a check over several keys names its own
        if "." in named and named in set(dotted_keys(raw)):
            return message
        whole_group = isinstance(value, Mapping | BaseModel)
        return f"{key}: {message}" if whole_group else f"{key}={shown(value)}: {message}"
    if kind == "literal_error":
        allowed = context["expected"].replace("'", "").replace(" or ", ", ")
        near = nearest(value, allowed.split(", ")) if isinstance(value, str) else ""
        return f"{key}={shown(value)}: must be one of {allowed}{near}"
    if kind in _MUST:
        return f"{key}={shown(value)}: must {_MUST[kind].format_map(context)}"
    return f"{key}={shown(value)}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _key(raw: object, location: tuple[int | str, ...]) -> str:
    """The dotted key of pydantic's location, which has list positions and unions' tags in it as well."""
    parts: list[str] = []
    for n, part in enumerate(location):
        if isinstance(raw, Mapping) and part in raw:
            raw = raw[part]
            parts.append(str(part))
        elif isinstance(part, str) and isinstance(raw, Mapping) and n == len(location) - 1:
            parts.append(part)  # a missing key
    return ".".join(parts)
