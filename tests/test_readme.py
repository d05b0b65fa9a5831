"""The README says what is so: of each paper its finding, its tally and its figure; its commands compose."""

import re
import shlex
from pathlib import Path

import pytest

from repro.pipeline import cli
from repro.pipeline.composition import conf, files
from repro.pipeline.experiment import experiment
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings import load
from repro.pipeline.store import Run
from repro.pipeline.system.errors import UserError

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
COMMANDS = [
    command
    for text in PAGES.values()
    for block in re.findall(r"```sh\n(.*?)```", text, re.S)
    for command in re.findall(r"^python scripts/run\.py.*", block.replace("\\\n", ""), re.M)
]
MISSING = re.compile(r"[Nn]o such file|holds no|no such folder|there is no")
LAUNCHED = ("hydra/", "hydra.")  # not an experiment's settings


@pytest.fixture(autouse=True)
def _at_the_top(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_it_can_be_read_in_ten_minutes():
    assert len(README.splitlines()) <= 150


@pytest.fixture(scope="module")
def ledger():
    """Of all reference records: what is measured twice counts once."""
    at = ["scale=cpu", "device=cpu", f"results={ROOT}/results/reference/cpu"]
    return verdicts.ledger([Run(load([f"experiment={name}", *at])) for name in files.experiments()])


@pytest.mark.parametrize("folder", files.folders())
def test_every_paper_stands_there_with_its_tally(folder, ledger):
    names = files.folders()[folder]
    counts = verdicts.tally([v for v in ledger if v.experiment in names])
    paper = experiment(load([f"experiment={names[0]}", "scale=cpu", "device=cpu"])).paper
    row = next(line for line in README.splitlines() if f"src/repro/papers/{folder}/README.md" in line)
    assert {paper.title, paper.reference, paper.finding} <= set(
        re.split(r"<br>|\[\*|\*\]", row.replace("<br><br>", "<br>"))
    )
    assert f"{counts['holds']} of {sum(counts.values())} claims hold" in row
    assert f"(results/reference/cpu/figures/{paper.picture}.png)" in row


def test_every_experiment_has_a_row():
    page = PAGES["experiments.md"]
    assert [name for name in files.experiments() if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    folder = ROOT if page == "README.md" else ROOT / "docs"
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", PAGES[page]) if not link.startswith("http")]
    assert [link for link in links if not (folder / link).exists()] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_compose(command):
    words = shlex.split(command, comments=True)[2:]
    if "--help" in words:
        return
    extra = cli.with_modules_of(ROOT / words[words.index("--config-dir") + 1]) if "--config-dir" in words else None
    overrides = [word for word in words if "=" in word and not word.startswith(LAUNCHED)]
    for job in conf.jobs([word for word in overrides if "interval(" not in word], multirun="-m" in words):
        scale = [] if any(word.startswith("scale=") for word in job) else ["scale=cpu"]
        said = ""
        try:
            load([*job, *scale], extra=extra, elsewhere=True)
        except UserError as mistake:
            said = str(mistake)
        assert not said or MISSING.search(said)  # a file that only a reader may have
