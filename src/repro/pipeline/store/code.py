"""Which code a run's numbers rest on: what tells a record of this code from one of other code.

From the experiment's `run`, and the settings of its data, model, noises and training with what implements them, names
are followed through the modules, ours and the user's: a definition counts where one that counts names it. Comments,
docstrings and layout do not count, nor do claims, captions and figures. Of the pipeline, which carries settings in and
results out, those modules count that have a hand in the numbers. Nothing is imported, only read.
"""

import ast
import hashlib
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path

from repro.pipeline.settings.config import PAPERS
from repro.pipeline.settings.groups import PACKAGE, ours

PIPELINE = f"{PACKAGE}.pipeline"
COMPUTES = (f"{PIPELINE}.execution.making", f"{PIPELINE}.store.parts", f"{PIPELINE}.system.distributed")
DRAWS = (f"{PIPELINE}.plotting", f"{PIPELINE}.presentation.drawing")
COUNT = {*COMPUTES, f"{PIPELINE}.system.threads", *DRAWS}
ROOT = PAPERS.parents[1]
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))

Name = tuple[str, str | None]
"""A module and what it defines; None for all of it."""


def computed_by(config: Mapping[str, object]) -> dict[str, str] | None:
    """The modules that a configuration's numbers rest on, each with a hash of what counts of it; None where one that
    the configuration names is not here."""
    home = _home(str(config.get("module")))
    roots: list[Name] = [(home, "Config"), (f"{home}.run" if _path(f"{home}.run") else home, "run")]
    for group in ("data", "model", "dropout", "training"):
        section = config.get(group)
        kinds = section.get("kind", section.get("scheme")) if isinstance(section, Mapping) else None
        for kind in kinds if isinstance(kinds, list | tuple) else [kinds]:
            settings = ours(group).get(str(kind))
            roots.append((settings.__module__, settings.__name__) if settings else (str(kind), None))
    if not all(_path(module) for module, _ in roots):
        return None
    return dict(_hashes((*roots, (COMPUTES[0], "compute"), (COMPUTES[1], "Parts"))))


def drawn_by(config: Mapping[str, object]) -> str:
    """Likewise, in one hash, what a configuration's figures rest on beside its record."""
    home = _home(str(config.get("module")))
    figures = f"{home}.figures" if _path(f"{home}.figures") else home
    return together(dict(_hashes(((figures, "figures"), *((module, None) for module in DRAWS)))))


def together(hashes: Mapping[str, str] | None) -> str:
    """One hash of several."""
    return _hash(f"{name} {text}" for name, text in (hashes or {}).items())


def _home(module: str) -> str:
    """The module of an experiment, as `settings.config.module_of` finds it."""
    found = sorted(path.parent.parent.name for path in PAPERS.glob(f"*/{module}/__init__.py") if module.isidentifier())
    return f"{PACKAGE}.papers.{found[0]}.{module}" if found else module


@dataclass
class _Source:
    """A module taken apart: the statements behind each name, those that count without a name, and its imports."""

    named: dict[str, list[ast.stmt]] = field(default_factory=lambda: defaultdict(list))
    always: list[ast.stmt] = field(default_factory=list)
    imported: dict[str, list[Name]] = field(default_factory=lambda: defaultdict(list))
    starred: list[str] = field(default_factory=list)


@cache
def _path(module: str) -> Path | None:
    """The file of a module that counts; None for one that does not, or is not there."""
    if not all(part.isidentifier() for part in module.split(".")):
        return None
    top, *rest = module.split(".")
    if top == PACKAGE:
        if module.startswith(PIPELINE) and module not in COUNT:
            return None
        stem = ROOT.joinpath(top, *rest)
        return next((path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.is_file()), None)
    if top in sys.stdlib_module_names:
        return None
    try:
        spec = find_spec(top)
        for end in range(2, len(rest) + 2):
            parents = spec.submodule_search_locations if spec else None
            spec = PathFinder.find_spec(".".join([top, *rest][:end]), parents) if parents is not None else None
    except (ImportError, ValueError):
        return None
    origin = (spec.origin or "") if spec else ""
    return Path(origin) if origin.endswith(".py") and not origin.startswith(LIBRARIES) else None


@cache
def _source(module: str) -> _Source:
    path, found = _path(module), _Source()
    if path is None:
        return found
    package = _package(module)
    stub = path.with_suffix(".pyi")  # names that load when they are asked for stand there
    for statement in [*_statements(path), *(_statements(stub) if stub.is_file() else ())]:
        if _is_text(statement):
            continue
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for name, target in _targets(statement, package):
                if name == "*":
                    found.starred.append(target[0])
                else:
                    found.imported[name].append(target)
            continue
        names = _bound(statement)
        for name in names:
            found.named[name].append(statement)
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not (
            names and isinstance(statement, ast.Assign | ast.AnnAssign)
        ):
            found.always.append(statement)
    return found


def _package(module: str) -> str:
    """What relative imports of a module start from."""
    path = _path(module)
    return module if path is not None and path.name == "__init__.py" else module.rpartition(".")[0]


def _statements(path: Path) -> list[ast.stmt]:
    try:
        return ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):  # whoever imports it will tell
        return []


def _targets(statement: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Name]]:
    """The names that an import binds, and what they stand for."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0], (alias.name, None)
        return
    base = statement.module or ""
    if statement.level:
        base = resolve_name("." * statement.level + base, package) if package else base
    for alias in statement.names:
        yield alias.asname or alias.name, (base, alias.name)


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


@cache
def _hashes(roots: tuple[Name, ...]) -> tuple[tuple[str, str], ...]:
    """The modules that `roots` reach, in order, each with a hash of what is reached of it."""
    reached: dict[str, set[str]] = defaultdict(set)
    seen: set[Name] = set()
    asked: set[str] = set()  # the functions of settings that are asked for, by `implementation`
    left = list(roots)
    while left:
        module, name = left.pop()
        if (module, name) not in seen and _path(module) is not None:
            seen.add((module, name))
            statements, others = _behind(module, name)
            left += others
            for where, statement in statements:
                if (text := _text(statement)) not in reached[where]:
                    reached[where].add(text)
                    left += (names := _names_of(statement, where))
                    reached[where] |= {
                        f"{base}.{n}" for base, n in names if base.split(".")[0] != PACKAGE and not _path(base)
                    }
                    asked |= set(_implementations(statement))
        if not left:
            inner = ((f"{module}.{function}", function) for module, _ in roots for function in sorted(asked))
            left = [root for root in inner if root not in seen and _path(root[0])]
    return tuple((module, _hash(sorted(texts))) for module, texts in sorted(reached.items()))


def _behind(module: str, name: str | None) -> tuple[list[tuple[str, ast.stmt]], list[Name]]:
    """What makes a name of a module: statements, each with its module, and names elsewhere."""
    source = _source(module)
    packages = [module.rsplit(".", n)[0] for n in range(module.count(".") + 1)]
    always = [(m, statement) for m in packages if _path(m) for statement in _source(m).always]
    if name is None:
        named = [(module, statement) for some in source.named.values() for statement in some]
        return [*always, *named], [*_elsewhere(module, *source.imported), *((base, None) for base in source.starred)]
    if name in source.named:
        return [*always, *((module, statement) for statement in source.named[name])], []
    if name in source.imported:
        return always, _elsewhere(module, name)
    if source.starred:
        return always, [(base, name) for base in source.starred]
    inner = f"{module}.{name}"
    return always, [(inner if _path(inner) else module, None)]  # else it comes about in a way that cannot be read


def _elsewhere(module: str, *names: str) -> list[Name]:
    """What the imported names of a module stand for; a module by itself, for all of it."""
    targets = [target for name in names for target in _source(module).imported[name]]
    return [(f"{base}.{name}", None) if name and _path(f"{base}.{name}") else (base, name) for base, name in targets]


def _names_of(statement: ast.stmt, module: str) -> list[Name]:
    """What a statement of a module names."""
    source, package = _source(module), _package(module)
    found: list[Name] = []
    attributes = {node.value: node.attr for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [(base, None if name == "*" else name) for _, (base, name) in _targets(node, package)]
        elif isinstance(node, ast.Name) and node.id in source.imported:
            # of a module that is named for one of its names, that one alone
            found += [(b, attributes.get(node, n) if n is None else n) for b, n in _elsewhere(module, node.id)]
        elif isinstance(node, ast.Name) and (node.id in source.named or source.starred):
            found.append((module, node.id))
    return found


def _implementations(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "implementation":
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def _text(node: object) -> str:
    """A statement by what it says: the same in all versions of Python, whatever the layout."""
    if isinstance(node, ast.AST):
        fields = ((key, value) for key, value in ast.iter_fields(node) if key not in _LEFT_OUT)
        inner = (f"{key}={_text(value)}" for key, value in fields if value is not None and value != [])
        return f"{type(node).__name__}({','.join(inner)})"
    return f"[{','.join(_text(n) for n in node if not _is_text(n))}]" if isinstance(node, list) else repr(node)


_LEFT_OUT = ("ctx", "type_comment", "kind")


def _is_text(statement: object) -> bool:
    """A docstring, or a text in its manner under an attribute."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _hash(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
