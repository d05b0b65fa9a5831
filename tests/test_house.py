"""The rules of the house that no linter holds."""

import re
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "repro"
LINES = {path: path.read_text(encoding="utf-8").splitlines() for path in sorted(SOURCE.rglob("*.py"))}


def lines_with(pattern):
    return [f"{path}: {line.strip()}" for path, lines in LINES.items() for line in lines if re.search(pattern, line)]


def test_types_have_names():
    assert len(lines_with(r"\bAny\b")) <= 10
    assert lines_with("TYPE_CHECKING") == []


def test_imports_stand_at_the_top_or_say_why_not():
    exceptions = lines_with("noqa: PLC0415")
    assert len(exceptions) <= 10
    assert [line for line in exceptions if not re.search(r"PLC0415\)? +\S", line)] == []


def test_nothing_that_others_may_write_is_run():
    assert lines_with(r"\b(pickle\b|os\.system|shell=True|allow_pickle=True|yaml\.load\b)") == []
    assert lines_with(r"\b(cloudpickle|dill|shelve|marshal|weights_only=False|(read|to)_pickle)\b") == []
    assert lines_with(r"(?<!def )(?<![.\w])(eval|exec)\(") == []


def test_a_reader_keeps_the_overview():
    assert {path.name: len(lines) for path, lines in LINES.items() if "papers" in path.parts and len(lines) > 300} == {}
    rooms = [path.name for path in SOURCE.iterdir() if path.is_dir() and (path / "__init__.py").exists()]
    assert len(rooms) <= 9
