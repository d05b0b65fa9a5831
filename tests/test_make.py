"""`make setup` with an interpreter that only says how it was called: nothing of a user's shell leads it elsewhere."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

STUB = """#!/bin/sh
{ echo "ran $0 $*"; env; } >> "$LOG"
[ "$1 $2" = "-m venv" ] && { mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/uv"; }
exit 0
"""

ELSEWHERE = {
    "PYTHONPATH": "/elsewhere", "PYTHONHOME": "/elsewhere", "PYTHONUSERBASE": "/elsewhere", "VIRTUAL_ENV": "/elsewhere",
    "CONDA_PREFIX": "/elsewhere", "PIP_USER": "1", "PIP_TARGET": "/elsewhere", "PIP_PREFIX": "/elsewhere",
    "PIP_ROOT": "/elsewhere", "UV_PYTHON": "/elsewhere", "UV_SYSTEM_PYTHON": "1",
    "UV_PROJECT_ENVIRONMENT": "/elsewhere",
}  # fmt: skip
INDEX = {"PIP_INDEX_URL": "https://example.org/simple", "UV_INDEX_URL": "https://example.org/simple"}


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "a checkout"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements.lock", "requirements-bootstrap.lock", "pyproject.toml"):
        (folder / name).touch()
    python = tmp_path / "python"
    python.write_text(STUB)
    python.chmod(0o755)
    return folder


def setup(folder, **env):
    """What was run and its environment; empty where nothing was to be done."""
    log = folder.parent / "log"
    log.unlink(missing_ok=True)
    done = subprocess.run(
        ["make", "setup", f"PYTHON={folder.parent / 'python'}"], cwd=folder, env=os.environ | env | {"LOG": str(log)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return log.read_text().splitlines() if log.exists() else []


def test_a_users_shell_does_not_matter_but_for_the_index(checkout):
    lines = setup(checkout, **ELSEWHERE, **INDEX)
    assert [line for line in lines if line.partition("=")[0] in ELSEWHERE] == []
    assert [line for line in lines if "/elsewhere" in line] == []
    assert {f"{name}={value}" for name, value in INDEX.items()} <= set(lines)
    installs = [
        i for i, line in enumerate(lines) if line.startswith("ran .venv/bin/python -m pip") and " install " in line
    ]
    assert installs
    for start in installs:  # pip's own settings files may name another place: none is read
        assert "--isolated" in lines[start]
        assert "PIP_CONFIG_FILE=/dev/null" in lines[start : start + 200]


def test_a_copied_checkout_is_set_up_anew_and_the_other_is_not(checkout):
    assert setup(checkout)
    assert setup(checkout) == []
    copy = shutil.copytree(checkout, checkout.parent / "a copy", symlinks=True)
    (copy / ".venv" / "of the other").touch()
    assert any(" -m venv " in line for line in setup(copy))
    assert not (copy / ".venv" / "of the other").exists()
    assert setup(copy) == []
    assert setup(checkout) == []


def test_a_setup_that_was_cut_short_is_begun_anew(checkout):
    assert setup(checkout)
    (checkout / ".venv" / ".incomplete").touch()
    (checkout / ".venv" / ".complete").unlink()
    assert any(" -m venv " in line for line in setup(checkout))


@pytest.mark.parametrize(
    ("target", "script"),
    [("reproduce-all", "reproduce_all"), ("figures", "figures"), ("report", "report"), ("compare", "compare")],
)
def test_one_paper_or_experiment_alone(checkout, target, script):
    assert setup(checkout)
    for given, override in {"PAPER=a,b": "paper=a,b", "EXPERIMENT=c": "experiment=c"}.items():
        command = ["make", "--no-print-directory", "-n", target, given, "SCALE=smoke", "ARGS=seed=[0,1]"]
        shown = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout
        assert shown.split(f"scripts/{script}.py")[1].split() == [override, "scale=smoke", "seed=[0,1]"]
