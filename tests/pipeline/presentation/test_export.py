"""Tables from records: what is selected, the three formats, and one line for each mistake."""

from pathlib import Path

import pandas as pd
import pytest

from repro.pipeline import cli
from repro.pipeline.presentation import commands, export
from repro.pipeline.store import Result, writing
from repro.pipeline.store.place import Place
from repro.pipeline.system.errors import UserError


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def recorded():
    for steps, rank in ((10, 1.23456789), (20, 5.0)):
        cells = pd.DataFrame({"cell": [0, 1], "block_size": [1, 4], "scheme": "drop_block", "rank": [rank, None]})
        curves = pd.DataFrame({"cell": [0, 1], "step": 3, "loss": [0.1, 0.2]})
        config = {"name": "demo", "device": "cpu", "training": {"steps": steps}}
        writing.write(Place.of("results", config), config, Result(cells, curves), command="", durations={})


def run(*arguments):
    return cli.over_all(commands.export, "what it does", list(arguments))


def test_selected_cells_in_three_formats(recorded, capsys):
    assert run("table=cells", "experiment=demo", "block_size=[1,2]", "training.steps=10", "columns=scheme,rank") == 0
    csv, markdown, latex = (Path(f"results/tables/demo_cells.{suffix}") for suffix in export.FORMATS)
    assert capsys.readouterr().out.splitlines() == [f"{path}: 1 rows" for path in (csv, markdown, latex)]
    assert csv.read_text() == "scheme,rank\ndrop_block,1.23456789\n"  # all digits: others compute with it
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in markdown.read_text().splitlines()]
    assert (rows[0], rows[2:]) == (["scheme", "rank"], [["drop_block", "1.235"]])
    assert r"scheme & rank \\" in latex.read_text()
    assert r"drop\_block & 1.235 \\" in latex.read_text()  # an underscore alone would stop LaTeX


def test_gaps_are_shown_as_dashes(recorded):
    frame = export.load("demo", "cells", Path("results"), ["block_size=4", "training.steps=10"])[["rank"]]
    assert "–" in export.render(frame, "md")
    assert "–" in export.render(frame, "tex")
    assert export.render(frame, "csv") == 'rank\n""\n'


@pytest.mark.parametrize(("table", "rows"), [("cells", 4), ("curves", 4), ("runs", 2)])
def test_every_table_of_the_records(recorded, table, rows):
    assert run(f"table={table}", "experiment=demo", "out=there/all.csv") == 0
    assert len(pd.read_csv("there/all.csv")) == rows
    assert [path.name for path in Path("there").iterdir()] == ["all.csv"]


def test_the_ledger(capsys):
    assert run("scale=smoke", "experiment=dropblock_objective", "columns=claim,verdict,command", "out=ledger") == 0
    frame = pd.read_csv("ledger.csv")
    assert set(frame.verdict) == {"not measured"}
    assert "same_descent" in set(frame.claim)
    assert frame.command.str.startswith("python scripts/run.py experiment=dropblock_objective").all()
    assert r"same\_descent & not measured" in Path("ledger.tex").read_text()


MISTAKES = {
    "table=cels": "table=cels: must be one of ledger, cells, curves, runs",
    "table=cells": "table=cells: of which experiment? add experiment=NAME",
    "table=cells experiment=dema": "no records of 'dema' in results/runs; did you mean 'demo'?",
    "table=cells experiment=demo blok_size=1": "unknown column 'blok_size' in cells of 'demo'; did you",
    "table=cells experiment=demo block_size=3": "no cells of demo in results with block_size=3",
    "table=cells experiment=demo block_size=[1": "block_size=[1: the value cannot be read",
    "table=cells experiment=demo columns=rank,ronk": "columns=rank,ronk: there is no ronk; there are: fingerprint",
    "table=cells experiment=demo out=t.pdf": "out=t.pdf: must end in .csv, .md, .tex, or in none for all three",
    "table=cells experiment=demo out=results/runs.csv/x.csv out=b": "out=b: out is given twice",
    "table=cells demo": "demo: not an override; an override is key=value",
    "scale=big": "scale=big: must be one of auto",
}


@pytest.mark.parametrize(("typed", "says"), MISTAKES.items())
def test_a_mistake_is_one_line_and_writes_nothing(typed, says, recorded, capsys):
    before = sorted(Path().rglob("*"))
    assert run(*typed.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert says in error
    assert sorted(Path().rglob("*")) == before


def test_a_file_in_the_way(recorded):
    Path("tables").write_text("a file")
    with pytest.raises(UserError, match="out=tables/x: cannot be written"):
        export.write(pd.DataFrame({"a": [1]}), Path("tables/x"))


def test_help(capsys):
    assert run("--help") == 0
    assert "what it does" in capsys.readouterr().out
