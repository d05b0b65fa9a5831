"""The commands of the paper's README on pruned networks compose, and its files are there."""

import re
import shlex
from pathlib import Path

import pytest

import repro.papers.incremental_regularization as paper
from repro.pipeline import settings

README = Path(paper.__file__).with_name("README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python scripts/run.py (.*)$", README, flags=re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_compose(command):
    words = [word for word in shlex.split(command) if word != "device=cuda"]
    assert settings.load([*words, "device=cpu"]).name == "incremental_pruning"


def test_files_are_there():
    links = [
        link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith(("http", "../../../../results"))
    ]
    assert len(links) > 5
    for link in links:
        assert (Path(paper.__file__).parent / link).exists(), link
