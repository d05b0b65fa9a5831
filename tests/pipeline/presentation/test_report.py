"""The report and the comparison, on an experiment that takes no time and claims that are made up for it."""

import re
from dataclasses import replace
from math import inf
from pathlib import Path

import pandas as pd
import pytest
from tiny import experiment as tiny

from repro.pipeline import cli, settings
from repro.pipeline.claims import Claim
from repro.pipeline.composition import files
from repro.pipeline.execution import commands as making
from repro.pipeline.execution import runner
from repro.pipeline.execution.making import compute
from repro.pipeline.presentation import commands, compare, report, verdicts
from repro.pipeline.store import Run, writing
from repro.pipeline.store.place import Place
from repro.pipeline.system.progress import Progress

CONF = Path(__file__).parents[2] / "fixtures" / "conf"
TINY = ["--config-dir", str(CONF), "experiment=tiny", "scale=smoke"]


def last_value(record):
    curves = record.table("curves")
    return curves[curves.step == curves.step.max()].groupby("seed").value.max()


HOLDS = Claim("grows", "The line grows <fast> & far.", "nowhere", "last value", "it must", last_value, 1.0, 10.0)
FAILS = replace(HOLDS, id="falls", statement="The line falls.", low=-10.0, high=0.0, caveat="It does not.")
SWEEP = 0.01  # what two machines' sweeps may differ by
LATER = replace(HOLDS, id="later", statement="The line goes on.", scales=("gpu",))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tiny, "CLAIMS", (HOLDS, LATER), raising=False)
    monkeypatch.setattr(tiny, "CAPTIONS", {"line": "A straight line."}, raising=False)


def load(*overrides):
    return settings.load(["experiment=tiny", "scale=smoke", *overrides], extra=CONF)


def page(*overrides):
    code = cli.over_all(commands.report, "", [*TINY, *overrides])
    return code, Path("results/report-tiny.html").read_text(encoding="utf-8")


def test_the_page_leads_from_verdict_to_record(capsys):
    record = runner.execute(Run(load("seed=[0,1]"), "python make it")).record
    code, html = page("seed=[0,1]")
    assert code == 0
    assert "1 claim holds, 0 fail, 1 not measured" in " ".join(html.split())
    assert "The line grows &lt;fast&gt; &amp; far." in html
    assert "python make it" in html
    assert 'alt="A straight line."' in html
    assert "data:image/webp;base64," in html
    assert "your own records" in html
    targets = set(re.findall(r' id="([^"]+)"', html))
    links = re.findall(r'href="([^"]+)"', html)
    assert {link[1:] for link in links if link.startswith("#")} <= targets
    files = [link for link in links if not link.startswith(("#", "data:"))]
    assert len(files) == 4
    assert any(file.endswith("line.pdf") for file in files)
    assert all((Path("results") / file).exists() for file in files)
    assert (Path("results") / files[1]).resolve() == record.path.resolve()
    assert "✓ holds" in capsys.readouterr().out


def test_nothing_on_the_page_is_fetched():
    runner.execute(Run(load()))
    html = re.sub(r'"data:[^"]*"', '""', page()[1])  # figures have references into themselves
    assert not re.search(r'(src|href)="(https?:|//)', html)
    assert "@import" not in html
    assert "url(" not in html


def test_a_claim_that_fails_is_exit_code_1_and_says_why(monkeypatch, capsys):
    monkeypatch.setattr(tiny, "CLAIMS", (HOLDS, FAILS))
    runner.execute(Run(load()))
    code, html = page()
    assert code == 1
    assert "It does not." in html
    assert "fails: tiny, falls: The line falls. It does not." in capsys.readouterr().out


def test_a_claim_that_is_known_to_fail_stands_as_such_and_is_no_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(tiny, "CLAIMS", (HOLDS, replace(FAILS, departs=("tiny",))))
    runner.execute(Run(load()))
    code, html = page()
    assert code == 0
    assert "1 claim holds, 1" in " ".join(html.split())
    assert '✗ fails<br><span class="soft">as known</span>' in html
    assert "fails, as known: tiny, falls: The line falls. It does not." in capsys.readouterr().out
    monkeypatch.setattr(tiny, "CLAIMS", (replace(FAILS, departs=("another",)),))
    assert page()[0] == 1


def test_reproduce_all_judges_and_reports(monkeypatch, capsys):
    assert cli.over_all(making.reproduce_all, "", TINY) == 0
    assert Path("results/report-tiny.html").is_file()
    monkeypatch.setattr(tiny, "CLAIMS", (FAILS,))
    assert cli.over_all(making.reproduce_all, "", TINY) == 1
    assert "✗ fails" in capsys.readouterr().out


def test_without_a_record_the_page_says_what_makes_it(capsys):
    code, html = page()
    assert code == 0
    assert "No record yet" in html
    assert html.count("python scripts/run.py") >= 2
    assert "no record" in capsys.readouterr().out


def test_reference_records_are_called_reference():
    results = "results/reference/smoke"
    runner.execute(Run(load(f"results={results}")))
    cli.over_all(commands.report, "", [*TINY, f"results={results}"])
    html = Path(results, "report-tiny.html").read_text(encoding="utf-8")
    assert "reference records" in html
    assert "your own records" not in html


# ---------------------------------------------------------------------- beside the reference


def made(results, factor=2.0, seed="0", **changes):
    """A record of the tiny experiment with what it measured changed afterwards."""
    config = load(f"results={results}", f"seed={seed}")
    result = compute(config, Progress("", quiet=True))
    curves = result.curves.assign(value=result.curves.value * factor / 2, **changes)
    place = Place.of(results, config.plain())
    return writing.write(place, config.plain(), replace(result, curves=curves), command="", durations={})


@pytest.mark.parametrize(
    ("factor", "verdict"), [(2.0, "identical"), (2.0 * (1 + 1e-4), "same"), (2.2, "differs"), (float("nan"), "differs")]
)
def test_curves_beside_the_reference(factor, verdict):
    reference, mine = made("results/reference/smoke"), made("results", factor)
    (value,) = [d for d in compare.differences(mine, reference, SWEEP) if d.column == "value"]
    assert value.verdict == verdict
    if verdict == "differs" and factor == factor:
        assert value.distance == pytest.approx(0.1)
        assert value.where == "cell 0, step 2"


def test_a_column_missing_on_both_sides_is_no_difference():
    reference = made("results/reference/smoke", extra=[float("nan"), 1.0, 2.0])
    mine = made("results", extra=[float("nan"), 1.0, 2.0])
    assert {d.verdict for d in compare.differences(mine, reference, SWEEP)} == {"identical"}


@pytest.mark.parametrize(("factor", "code", "words"), [(2.0, 0, "identical"), (3.0, 1, "value differs")])
def test_the_comparison_and_its_exit_code(factor, code, words, capsys):
    made("results/reference/smoke")
    made("results", factor)
    assert cli.over_all(commands.compare, "", TINY) == code
    assert words in capsys.readouterr().out


def test_a_verdict_that_differs_is_a_difference(monkeypatch, capsys):
    made("results/reference/smoke")
    made("results", 2.001)
    monkeypatch.setattr(tiny, "CLAIMS", (replace(HOLDS, high=4.0),))
    assert cli.over_all(commands.compare, "", TINY) == 1
    assert "≠ grows" in capsys.readouterr().out


def test_nothing_to_compare_with_is_said(capsys):
    made("results")
    assert cli.over_all(commands.compare, "", TINY) == 0
    assert "no reference of this configuration" in " ".join(capsys.readouterr().out.split())


def test_the_ledger_as_a_table():
    record = made("results")
    verdict = verdicts.judge(HOLDS, record, experiment="tiny", command="")
    row = verdicts.table([verdict]).iloc[0]
    assert (row.experiment, row.claim, row.verdict, row.measured) == ("tiny", "grows", "holds", 4.0)
    assert pd.isna(row.low)
    assert report.whose(Path("results")) == "your"


def test_experiments_are_listed_under_their_papers():
    papers = ("One paper", "Another & more", "One paper")
    found = [Run(load(f"seed={i}", f"paper={paper!r}")) for i, paper in enumerate(papers)]
    html = report.write(found, [], Path("report.html")).read_text(encoding="utf-8")
    nav = html[html.index("<nav") : html.index("</nav>")]
    assert re.findall("<h3>(.*?)</h3>|(<li>)|(<ul>|</ul>)", nav) == [
        ("One paper", "", ""), ("", "", "<ul>"), ("", "<li>", ""), ("", "<li>", ""), ("", "", "</ul>"),
        ("Another &amp; more", "", ""), ("", "", "<ul>"), ("", "<li>", ""), ("", "", "</ul>"),
    ]  # fmt: skip
    assert len(re.findall("<article>", html)) == 2


def test_what_fails_comes_first_then_what_was_not_measured(monkeypatch):
    monkeypatch.setattr(tiny, "CLAIMS", (HOLDS, LATER, FAILS))
    runner.execute(Run(load()))
    table = page()[1].partition("<tbody>")[2].partition("</tbody>")[0]
    assert re.findall(r"[✓✗–] (\w+ ?\w*)</?", re.sub(r"<br>.*?</td>", "</td>", table)) == [
        "fails",
        "not measured",
        "holds",
    ]


def test_what_was_measured_stands_with_its_quantity_beside_the_reference():
    runner.execute(Run(load("seed=[0,1]")))
    assert "reference:" not in page("seed=[0,1]")[1]
    made("results/reference/smoke", 3.0, seed="[0,1]")
    html = page("seed=[0,1]")[1]
    assert '<b>4</b> <span class="soft">last value (one value, alike for 2 seeds' in html
    assert "reference: 6" in html
    assert "value differs by 33 %" in html


@pytest.mark.parametrize(
    ("changes", "values", "mark", "ends"),
    [
        ({"low": -inf, "high": 2.0}, (0.0,), 0.0, None),
        ({"low": -inf, "high": 2.0}, (1.0,), 35.0, None),
        ({"low": -inf, "high": 2.0}, (2.0,), 70.0, None),
        ({"low": -inf, "high": 2.0}, (9.0,), 100.0, None),
        ({"low": 0.5, "high": 1.5}, (0.75, 1.0), 35.0, None),
        ({"low": 0.0, "high": inf, "rule": "interval"}, (1.0, 1.0, 1.0), 95.0, (95.0, 95.0)),
        ({"low": 0.0, "high": inf, "rule": "interval"}, (-1.0, 1.0), 50.0, (5.0, 95.0)),
        ({"low": -inf, "high": 0.0, "rule": "interval"}, (-2.0, -2.0), 5.0, (5.0, 5.0)),
    ],
)
def test_the_bar_shows_where_a_measurement_lies(changes, values, mark, ends):
    claim = replace(HOLDS, **changes)
    shown = report.bar(verdicts.Verdict(claim, "tiny", "holds", "", values, tuple(range(len(values)))))
    assert (shown.mark, shown.ends) == (mark, ends)


def test_no_bar_where_a_word_says_all():
    exact = replace(HOLDS, low=1.0, high=1.0)
    assert report.bar(verdicts.Verdict(exact, "tiny", "holds", "", (1.0,), (0,))) is None
    assert report.bar(verdicts.Verdict(HOLDS, "tiny", "not measured", "")) is None


def test_the_page_of_some_lies_beside_that_of_all():
    runs = [Run(settings.load([f"experiment={name}", "scale=smoke"])) for name in files.experiments()]
    assert report.place(runs) == Path("results/report.html")
    assert report.place([*runs, Run(load())]) == Path("results/report.html")
    assert report.place(runs[:1] * 2) == Path(f"results/report-{runs[0].config.name}.html")
    some = [report.place(runs[:-1]), report.place(runs[1:])]
    assert len(set(some)) == 2
    assert all(len(path.name) < 120 for path in some)
    paper = [run for run in runs if run.config.name.startswith("deep_linear")]
    assert report.place(paper) == Path("results/report-deep_linear_dropout.html")
    Path("results").mkdir()
    Path("results/report.html").write_text("of all")
    page()
    assert Path("results/report.html").read_text() == "of all"
