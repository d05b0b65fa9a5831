"""Which runs `reproduce_all` is asked for, what it says that it will do, and how far it is."""

from pathlib import Path

import pytest
from pandas import DataFrame

from repro.pipeline import cli
from repro.pipeline.composition import files
from repro.pipeline.execution import commands, outlook
from repro.pipeline.execution.outlook import Outlook
from repro.pipeline.presentation import report
from repro.pipeline.settings import load
from repro.pipeline.store import Result, Run
from repro.pipeline.system.errors import UserError

CONF = Path(__file__).parents[2] / "fixtures" / "conf"
TINY = ["--config-dir", str(CONF), "experiment=tiny", "scale=smoke"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def tiny(*overrides):
    return Run(load(["experiment=tiny", "scale=smoke", *overrides], extra=CONF))


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(outlook.time, "monotonic", lambda: now[0])
    return now


def test_a_paper_is_its_experiments():
    found = files.folders()
    assert next(iter(found)) == "structured_dropout"
    assert sorted(name for names in found.values() for name in names) == sorted(files.experiments())
    runs = commands.plan(["paper=deep_linear_dropout", "scale=smoke"])
    assert [run.config.name for run in runs] == found["deep_linear_dropout"]
    both = commands.plan(["paper=adaptive_dropout,deep_linear_dropout", "scale=smoke"])
    assert [run.config.name for run in both] == found["adaptive_dropout"] + found["deep_linear_dropout"]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (
            ["paper=structured_dropuot"],
            r"^paper=structured_dropuot: must be one of structured_dropout, .* did you mean",
        ),
        (["paper="], "^paper=: must be one of"),
        (
            ["paper=adaptive_dropout", "experiment=rank_collapse"],
            "^paper=adaptive_dropout: goes without experiment=rank",
        ),
    ],
)
def test_what_is_no_paper_is_one_line(typed, says):
    with pytest.raises(UserError, match=says):
        commands.plan([*typed, "scale=smoke"])


def test_the_plan_is_said_before_anything_runs(capsys):
    assert cli.over_all(commands.reproduce_all, "", [*TINY, "options.factor=2,3"]) == 0
    first = capsys.readouterr().out.splitlines()
    start = next(n for n, line in enumerate(first) if line.split() == ["tiny", "to", "run"])
    assert first[start + 2] == "2 to run"
    assert first[start + 3].startswith("[1/2] ")
    assert any(line.startswith("[2/2] ") for line in first)
    assert cli.over_all(commands.reproduce_all, "", [*TINY, "options.factor=2,3,5"]) == 0
    second = capsys.readouterr().out
    assert "2 of 3 recorded" in second
    assert "[1/1] " in second


def test_figures_are_there_as_soon_as_their_run_is(monkeypatch):
    there = []

    def seen(self, run):
        there.append(sorted(path.name for path in Path("results/figures").glob("*/*.png")))
        return original(self, run)

    original = Outlook.next
    monkeypatch.setattr(Outlook, "next", seen)
    assert cli.over_all(commands.reproduce_all, "", [*TINY, "options.factor=2,3"]) == 0
    assert there == [[], ["line.png"]]


def test_the_time_is_the_references_at_the_pace_of_this_machine(clock, capsys):
    runs = [tiny(f"options.factor={factor}") for factor in (2, 3, 5)]
    for run, seconds in zip(runs, (20.0, 40.0, 60.0), strict=True):
        there = tiny(f"options.factor={run.config.options.factor}", f"results={report.REFERENCE}/smoke")
        there.write(made(), {"run": seconds})
    shown = Outlook(runs)
    shown.say()
    assert "3 to run, about 2 min 00 s to go" in capsys.readouterr().out
    shown.next(runs[0])
    clock[0] = 40.0  # twice as long as there
    shown.done(runs[0])
    shown.next(runs[1])
    assert capsys.readouterr().out.splitlines() == [
        "[1/3] 0.0 s gone, about 2 min 00 s to go",
        "[2/3] 40.0 s gone, about 3 min 20 s to go",
    ]


def test_no_time_is_named_where_one_is_not_known(clock, capsys):
    runs = [tiny(f"options.factor={factor}") for factor in (2, 3)]
    tiny("options.factor=2", f"results={report.REFERENCE}/smoke").write(made(), {"run": 20.0})
    shown = Outlook(runs)
    shown.say()
    shown.next(runs[0])
    assert capsys.readouterr().out.splitlines()[-2:] == ["2 to run", "[1/2] 0.0 s gone"]


def made() -> Result:
    return Result(DataFrame({"cell": [0], "seed": [0]}), DataFrame({"cell": [0], "step": [0], "value": [1.0]}), {}, {})
