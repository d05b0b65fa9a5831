"""The figures' style: the same file twice, bands that fit their axes, means over seeds."""

import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from repro.pipeline import plotting


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
    figure, axes = plotting.panels(count)
    assert len(axes) == len(figure.axes) == count
    assert figure.get_figwidth() == (plotting.COLUMN if count == 1 else plotting.PAGE)
    grid = axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == (rows, columns)
    assert plotting.panels(2 * count)[0].get_figheight() >= figure.get_figheight() - 0.2


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
        lines = [axes[0].plot([0, 1], [0, i])[0] for i in range(3)]
        plotting.legend_below(figure, lines, ["$r = 1$", "$r = 2$", "$r = 4$"])
        figure.draw_without_rendering()
        (legend,) = figure.legends
        renderer = FigureCanvasAgg(figure).get_renderer()
        assert [text.get_text() for text in legend.get_texts()] == ["$r = 1$", "$r = 2$", "$r = 4$"]
        assert legend.get_window_extent(renderer).y1 <= min(a.get_tightbbox(renderer).y0 for a in axes) + 1
