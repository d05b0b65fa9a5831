"""What becomes of figures that fail, that nobody wants, or that a reader wants otherwise."""

import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from tiny import experiment as tiny

from repro.pipeline import cli, plotting, settings
from repro.pipeline.execution import commands as running
from repro.pipeline.execution import runner
from repro.pipeline.presentation import commands
from repro.pipeline.store import Run
from repro.pipeline.store.identity import fingerprint

CONF = Path(__file__).parents[2] / "fixtures" / "conf"
TINY = ["--config-dir", str(CONF), "experiment=tiny", "scale=smoke"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def execute(*overrides) -> runner.Outcome:
    return runner.execute(Run(settings.load(["experiment=tiny", "scale=smoke", *overrides], extra=CONF), ""))


def draw(*arguments) -> int:
    return cli.over_all(commands.figures, "", [*TINY, *arguments])


def run_all(*arguments) -> int:
    return cli.over_all(running.reproduce_all, "", [*TINY, *arguments])


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.pdf")}


def panel() -> Figure:
    figure, axes = plotting.titled({1: "first", 2: "second"})
    axes[1].plot([1, 2], [1, 2])
    plotting.note(figure, "read this")
    return figure


def broken() -> Figure:
    raise KeyError(0.9)


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(tiny, "figures", lambda record: {"bad": broken, "good": panel})


def test_a_figure_that_fails_is_named_and_costs_nothing_else(two, capfd):
    outcome = execute()
    assert names(outcome.record.figures) == {"good"}
    told = capfd.readouterr()
    assert "KeyError: 0.9" in told.err
    assert "tiny: figure bad failed, traceback above; the record is whole" in told.err
    again = execute()
    assert again.cached
    told = capfd.readouterr()
    assert "not drawn: bad" in told.out
    assert not told.err  # and is not tried again by the same code
    assert draw() == 1
    told = capfd.readouterr()
    assert "results/figures/tiny/good.{pdf,svg,png}" in told.out
    assert "figure bad failed" in told.err


def test_nor_does_one_that_draws_them_all_at_once(monkeypatch, capfd):
    monkeypatch.setattr(tiny, "figures", lambda record: {"line": broken()})
    assert not names(execute().record.figures)
    assert "tiny: figure figures failed" in capfd.readouterr().err
    assert run_all() == 0
    assert Path("results/report-tiny.html").exists()


def test_all_figures_of_a_whole_record_are_there(two, monkeypatch):  # control
    monkeypatch.setattr(tiny, "figures", lambda record: {"bad": panel, "good": panel})
    assert names(execute().record.figures) == {"bad", "good"}
    assert draw() == 0


def test_a_run_without_figures_has_them_drawn_later(capfd):
    outcome = execute("figures=false")
    assert not outcome.record.figures.exists()
    assert execute("figures=false").cached
    assert not outcome.record.figures.exists()
    assert execute().cached  # the same run, whose figures are wanted now
    assert names(outcome.record.figures) == {"line"}
    plain = settings.load(["experiment=tiny", "scale=smoke"], extra=CONF).plain()
    assert fingerprint(plain) == fingerprint({k: v for k, v in plain.items() if k != "figures"})


def test_all_of_it_without_figures(capfd):
    assert run_all("figures=false") == 0
    assert not Path("results/figures").exists()
    assert "data:image/svg" not in Path("results/report-tiny.html").read_text(encoding="utf-8")
    assert not [*Path("results/runs/tiny").glob("*/figures")]
    assert run_all() == 0
    assert names(Path("results/figures/tiny")) == {"line"}


def size(path: Path) -> tuple[float, float]:
    text = path.read_text(encoding="utf-8")
    width, height = (float(re.search(rf'<svg[^>]* {name}="([\d.]+)pt"', text)[1]) for name in ("width", "height"))
    return width / 72, height / 72


def test_a_reader_has_it_otherwise(two, monkeypatch, capfd):
    drawn = []
    monkeypatch.setattr(
        tiny, "figures", lambda record: {"bad": broken, "good": lambda: drawn.append(panel()) or drawn[-1]}
    )
    execute()
    record = drawn[-1]
    assert [axes.get_title() for axes in record.axes] == ["first", "second"]
    assert "read this" in record.get_suptitle()
    file = Path("results/figures/tiny/good.svg")
    assert draw("figure.width=3.3", "figure.font=9", "figure.titles=false", "figure.only=[good]") == 0
    told = capfd.readouterr().out
    assert "tiny, good: read this" in told
    assert drawn[-1].axes[0].xaxis.label.get_fontsize() == 9
    assert [axes.get_title() for axes in drawn[-1].axes] == ["", ""]
    assert drawn[-1].get_suptitle() == ""
    assert size(file)[0] == pytest.approx(3.3, abs=0.01)
    assert draw("figure.only=good") == 0  # control: without the others
    assert size(file)[0] == pytest.approx(plotting.PAGE, abs=0.01)
    assert record.axes[0].xaxis.label.get_fontsize() == 8


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("figure.width=0.2", "figure.width=0.2: must lie in 1 … 40 (inches)"),
        ("figure.width=wide", "figure.width=wide: must be a number"),
        ("figure.font=2", "figure.font=2: must lie in 3 … 40 (points)"),
        ("figure.titles=no thanks", "figure.titles=no thanks: must be true or false"),
        ("figure.widht=3", "figure.widht: unknown key; did you mean figure.width?"),
        ("figure.only=[godd]", "figure.only=godd: tiny has bad, good"),
        ("figure.style=nowhere.mplstyle", "figure.style=nowhere.mplstyle: must be a Matplotlib style file"),
        ("figures=false", "figures=false: this draws figures; figure.only=[NAME,...] draws some of them"),
    ],
)
def test_what_a_reader_cannot_have(two, capfd, override, line):
    execute()
    capfd.readouterr()
    assert draw(override) == 2
    told = capfd.readouterr().err
    assert told.startswith(f"error: {line}")
    assert told.count("\n") == 1
    assert not Path("results/figures/tiny/good.pdf").exists()


def test_a_run_takes_no_look(capfd):
    assert cli.run([*TINY, "figure.width=3"]) == 2
    assert "figure.width=3: only scripts/figures.py takes it" in capfd.readouterr().err
    assert not Path("results").exists()


def test_what_figures_cannot_show_is_said_before_a_run(monkeypatch, capfd):
    monkeypatch.setattr(tiny.Config, "drawn", property(lambda self: (30, 144)), raising=False)
    execute()
    told = capfd.readouterr().out
    assert "the figures will not show all 30 panels, there is room for 20" in told
    assert "all 144 series a panel, there is room for 24" in told
    assert told.index("will not show") < told.index("done in")
    monkeypatch.setattr(tiny.Config, "drawn", property(lambda self: (20, 24)))
    execute("force=true")
    assert "will not show" not in capfd.readouterr().out  # control


def test_records_of_another_scale_are_pointed_to(capsys):
    theirs = ["--config-dir", str(CONF), "experiment=tiny"]
    assert cli.run([*theirs, "scale=smoke", "figures=false"]) == 0
    wanted = "tiny: recorded at scale=smoke; to see them: this command with scale=smoke, or make … SCALE=smoke\n"
    for script in (commands.figures, commands.report, commands.compare):
        capsys.readouterr()
        cli.over_all(script, "", [*theirs, "scale=cpu"])
        assert capsys.readouterr().err.endswith(wanted), script
        cli.over_all(script, "", [*theirs, "scale=cpu", "options.factor=7"])  # that is nowhere
        assert "recorded at" not in capsys.readouterr().err
        cli.over_all(script, "", [*theirs, "scale=smoke"])
        assert "recorded at" not in capsys.readouterr().err
