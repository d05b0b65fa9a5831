"""The figures' style: the same file twice, bands that fit their axes, means over seeds."""

import warnings
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from repro.pipeline import plotting
from repro.pipeline.settings.look import Look
from repro.pipeline.system.errors import UserError


def line(height: float = 1.0) -> Figure:
    with plotting.style():
        figure, (axis,) = plotting.panels(1)
        axis.plot([0, 1], [0, height], label=r"$\sigma_1(UV^\top X)$")
        axis.legend()
    return figure


def saved(figure: Figure, path) -> list[bytes]:
    with plotting.style():
        return [file.read_bytes() for file in plotting.save(figure, path)]


def test_the_same_figure_is_the_same_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    first = saved(line(), tmp_path / "first")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")  # a day later, if a date went in
    again = saved(line(), tmp_path / "again")
    assert first == again
    assert first[0].startswith(b"%PDF")
    assert first[1].startswith(b"<?xml")
    assert first[2].startswith(b"\x89PNG")
    other = saved(line(0.5), tmp_path / "other")  # control
    assert all(mine != theirs for mine, theirs in zip(first, other, strict=True))
    # Control: what matplotlib does by itself differs from day to day.
    line().savefig(tmp_path / "dated.pdf")
    assert (tmp_path / "dated.pdf").read_bytes() != first[0]
    assert b"CreationDate" in (tmp_path / "dated.pdf").read_bytes()
    assert b"CreationDate" not in first[0]


def test_save_makes_the_folder_and_keeps_dots_in_names(tmp_path):
    files = plotting.save(line(), tmp_path / "new" / "p=0.5")
    assert [file.name for file in files] == ["p=0.5.pdf", "p=0.5.svg", "p=0.5.png"]
    assert all(file.stat().st_size > 1000 for file in files)


def test_the_style_ends_with_its_block():
    before = mpl.rcParams["font.size"], mpl.rcParams["pdf.fonttype"]
    with plotting.style():
        assert mpl.rcParams["font.size"] == 8
        assert mpl.rcParams["pdf.fonttype"] == 42  # fonts that a publisher accepts
    assert (mpl.rcParams["font.size"], mpl.rcParams["pdf.fonttype"]) == before
    assert before[0] != 8


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (4, 1, 4), (5, 2, 4), (8, 2, 4)])
def test_panels_fill_the_page(count, rows, columns):
    with plotting.style():
        figure, axes = plotting.panels(count)
        taller = plotting.panels(2 * count)[0]
    assert len(axes) == len(figure.axes) == count
    assert figure.get_figwidth() == (plotting.COLUMN if count == 1 else plotting.PAGE)
    grid = axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == (rows, columns)
    assert taller.get_figheight() >= figure.get_figheight() - 0.2


def extent(axis) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edge of the one band in `axis`, at x = 0, 1, …"""
    (collection,) = axis.collections
    vertices = collection.get_paths()[0].vertices
    xs = np.unique(vertices[:, 0])
    edges = [vertices[vertices[:, 0] == x, 1] for x in xs]
    return np.array([e.min() for e in edges]), np.array([e.max() for e in edges])


def test_a_band_is_mean_and_deviation():
    mean, std = pd.Series([1.0, 2.0, 3.0]), pd.Series([0.5, 0.0, 4.0])
    _, (axis,) = plotting.panels(1)
    plotting.band(axis, range(3), mean, std, "C0")
    lower, upper = extent(axis)
    np.testing.assert_allclose(lower, mean - std)
    np.testing.assert_allclose(upper, mean + std)


def test_a_band_stays_positive_on_a_logarithmic_axis():
    _, (axis,) = plotting.panels(1)
    axis.set_yscale("log")
    plotting.band(axis, [0, 1, 2], [1.0, 2.0, 3.0], [0.5, 2.0, 4.0], "C0")
    lower, upper = extent(axis)
    np.testing.assert_allclose(lower, [0.5, 0.2, 0.3])
    np.testing.assert_allclose(upper, [1.5, 4.0, 7.0])


def test_over_seeds():
    rows = pd.DataFrame({"step": [0, 0, 5, 5, 9], "value": [1.0, 3.0, 2.0, 2.0, 7.0], "seed": [0, 1, 0, 1, 0]})
    found = plotting.over_seeds(rows, "step", "value")
    assert list(found.step) == [0, 5, 9]
    assert list(found["mean"]) == [2, 2, 7]
    np.testing.assert_allclose(found["std"], [2**0.5, 0, 0])  # one seed has no deviation, and no NaN
    assert plotting.over_seeds(rows[:0], "step", "value").empty
    assert len(plotting.over_seeds(rows, ["step", "seed"], "value")) == 5


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_lines_can_be_told_apart():
    assert len(set(plotting.COLORS)) == len(plotting.COLORS) == len(plotting.MARKERS) == len(set(plotting.MARKERS))
    assert all(luminance(color) < 0.5 for color in plotting.COLORS)  # seen on white; pure yellow has 0.93


def test_one_legend_under_the_panels():
    with plotting.style(), warnings.catch_warnings():
        warnings.simplefilter("error")
        figure, axes = plotting.panels(4)
        for i in range(3):
            axes[0].plot([0, 1], [0, i])
        key = plotting.Key()
        key.series(["$r = 1$", "$r = 2$", "$r = 4$"])
        key.below(figure)
        figure.draw_without_rendering()
        (legend,) = figure.legends
        renderer = FigureCanvasAgg(figure).get_renderer()
        assert [text.get_text() for text in legend.get_texts()] == ["$r = 1$", "$r = 2$", "$r = 4$"]
        assert legend.get_window_extent(renderer).y1 <= min(a.get_tightbbox(renderer).y0 for a in axes) + 1


@pytest.mark.parametrize("count", [1, 7, 8, 12, 20])
def test_any_number_of_series_has_a_look_each(count):
    with plotting.style():
        found = plotting.styles(range(count))
    assert [item for *_, item in found] == [*range(count)]
    assert len({(color, marker) for color, marker, _ in found}) == count
    assert len({color for color, *_ in found}) == count
    assert all(luminance(color) < 0.5 for color, *_ in found)
    assert ([color for color, *_ in found] == [c.lower() for c in plotting.COLORS[:count]]) == (count <= 7)


def entries(*names) -> list[tuple[str, str]]:
    """(name, colour) of what the key of these series shows."""
    with plotting.style():
        key = plotting.Key()
        key.series(names)
    return [(name, line.get_color()) for line, name in key.entries]


def test_a_key_has_every_name_beside_its_colour_or_some_of_many_in_order():
    for count in (1, 9, 12, 20):
        names = [rf"$\theta = {0.04 * i:g}$" for i in range(1, count + 1)]
        found = entries(*names)
        with plotting.style():
            looks = {name: color for color, _, name in plotting.styles(names)}
        assert found == [(name, looks[name]) for name, _ in found]
        assert len(found) == (count if count <= 12 else 7)
        assert (found[0][0], found[-1][0]) == (names[0], names[-1])
    nouns = [f"noise {letter}, $r = {i}$" for i, letter in enumerate("abcdefghijklmnop")]  # no one quantity's values
    assert [name for name, _ in entries(*nouns)] == nouns


@pytest.mark.parametrize(("low", "high"), [(2.1, 8.7), (0.11, 0.19), (1.02e-7, 1.03e-7), (0.5, 3e4), (3e-6, 4e-6)])
def test_a_logarithmic_axis_of_any_range_has_numbers(low, high, tmp_path):
    with plotting.style():
        figure, (axis,) = plotting.panels(1)
        axis.plot([low, high], [low, high])
        axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
        plotting.lay_out(figure)
        for one in (axis.xaxis, axis.yaxis):
            ticks = [tick for tick in one.get_major_ticks() if low <= tick.get_loc() <= high]
            assert len(ticks) >= 2
            assert all(tick.label1.get_text() for tick in ticks)


def test_ticks_at_given_values_do_not_touch():
    with plotting.style():
        figure, axes = plotting.panels(4)
        axes[0].set_xlim(0, 1)
        plotting.mark(axes[0].xaxis, np.linspace(0.05, 0.95, 19))
        plotting.mark(axes[1].xaxis, [0.25, 0.75])
        plotting.lay_out(figure)
        renderer = FigureCanvasAgg(figure).get_renderer()
        boxes = [tick.label1.get_window_extent(renderer) for tick in axes[0].xaxis.get_major_ticks()]
    assert 3 <= len(boxes) < 19
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))
    assert len(axes[1].xaxis.get_major_ticks()) == 2


def test_a_line_of_one_point_is_a_bar():
    _, (axis,) = plotting.panels(1)
    assert plotting.line(axis, [0.5, 0.5], [1.0, 1.0]).get_marker() == "_"
    assert plotting.line(axis, [0.4, 0.5], [1.0, 1.0]).get_marker() == "None"  # control


def test_other_settings_are_not_taken_for_seeds():
    rows = pd.DataFrame({"step": [0, 0], "value": [1.0, 3.0], "seed": [0, 0], "block_size": [1, 2]})
    with pytest.raises(ValueError, match="several rows of one seed at one step"):
        plotting.over_seeds(rows, "step", "value")
    assert len(plotting.over_seeds(rows, ["step", "block_size"], "value")) == 2


def test_more_panels_than_a_page_holds_are_some_and_a_note():
    with plotting.style():
        figure, axes = plotting.titled({i: f"$r = {i}$" for i in range(30)})
        assert len(axes) == len(figure.axes) == 20
        assert figure.get_suptitle() == "20 of 30 panels are drawn"
        assert [axis.get_title() for axis in axes.values()] == [f"$r = {i}$" for i in axes]
        assert (min(axes), max(axes)) == (0, 29)
        assert plotting.titled({0: "one"})[0].get_suptitle() == ""


def test_a_narrow_page_wraps_its_panels_and_a_large_font_needs_room():
    with plotting.style(Look(width=3.3, font=9)):
        figure, axes = plotting.panels(3)
        assert figure.get_figwidth() == 3.3
        assert axes[0].get_subplotspec().get_gridspec().ncols == 2
        assert mpl.rcParams["font.size"] == 9
    with plotting.style(Look(width=3.3, font=14)):
        assert plotting.panels(3)[1][0].get_subplotspec().get_gridspec().ncols == 1


def test_a_readers_style(tmp_path):
    path = tmp_path / "mine.mplstyle"
    path.write_text("axes.prop_cycle: cycler('color', ['ff0000', '00ff00'])\nlines.linewidth: 3\n")
    plotting.check(Look(style=str(path)))
    with plotting.style(Look(style=str(path))):
        assert [color for color, *_ in plotting.styles("ab")] == ["#ff0000", "#00ff00"]
        assert mpl.rcParams["lines.linewidth"] == 3
    path.write_text("lines.lenewidth: 3\n")
    with pytest.raises(UserError, match=r"figure.style=.*lines.lenewidth"):
        plotting.check(Look(style=str(path)))
    with pytest.raises(UserError, match="must be a Matplotlib style file"):
        plotting.check(Look(style="no_such_style"))


def test_a_matplotlibrc_changes_nothing(tmp_path):
    (tmp_path / "matplotlibrc").write_text(
        "axes.facecolor: red\nfont.serif: Impact\naxes.labelweight: bold\nlines.marker: x\n"
    )
    with plotting.style():
        ours = dict(mpl.rcParams)
    with mpl.rc_context(fname=tmp_path / "matplotlibrc"):
        assert mpl.rcParams["axes.facecolor"] == "red"
        with plotting.style():
            assert dict(mpl.rcParams) == ours
        assert mpl.rcParams["axes.facecolor"] == "red"  # the caller's own
