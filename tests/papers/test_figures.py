"""Figures of grids of any size: every value drawn and called by its name, nothing cut off, no two on one place."""

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from repro.pipeline import plotting, settings
from repro.pipeline.experiment import experiment
from repro.pipeline.settings.look import Look
from repro.pipeline.store import Record, Run

COUNTS = (1, 2, 9, 12)
NINE = ("dropblock_objective", "rank_collapse", "dropblock_approximation", "deep_linear_collapse")  # a line not filled
DIVISORS = [1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60]
TINY = ["training.steps=6", "training.log_points=3"]
LAYERS = ("last_layer_dropout", "last_layer_textbook", "dropblock_approximation", "deep_linear_regularizer")
REPLICATED = (*LAYERS, "deep_linear_collapse")
ADAPTIVE = ("adaptive_penalties", "adaptive_regression", "adaptive_sparsification")
RUN = ("dropblock_objective", "any_dropout", "dropconnect", "global_minimum", "rank_collapse", "wide_networks")

VARIATIONAL = ("structured_noise", "structured_posterior", "variational_regression", "variational_classification")
PRUNED = ("incremental_pruning", "incremental_schedule")
STRUCTURED = ("structured_output_landmarks", "structured_output_digits")
OTHERS = (*VARIATIONAL, *ADAPTIVE, *PRUNED, *STRUCTURED)  # whose grids are their own


def listed(values) -> str:
    return f"[{','.join(map(str, values))}]"


def rates(count: int) -> list[float]:
    return [0.5] if count == 1 else [round(float(rate), 3) for rate in np.linspace(0.1, 0.95, count)]


def grid(name: str, count: int) -> list[str]:
    """An experiment with so many values a dimension, as small as it gets."""
    retain = f"dropout.retain={listed(rates(count))}"
    p, sizes = retain.replace("retain", "p"), f"dropout.block_size={listed(DIVISORS[:count])}"
    return [*TINY, *{
        "dropblock_objective": ["model.width=60", sizes, retain, "options.monte_carlo_masks=4"],
        "any_dropout": ["model.width=60", sizes, retain, "options.monte_carlo_masks=4"],
        "dropconnect": [retain, "options.monte_carlo_masks=4"],
        "global_minimum": ["model.width=60", sizes, p, "options.solve=false", "options.width_needed=null"],
        "rank_collapse": ["model.width=60", sizes, p],
        "wide_networks": ["model.width=60", sizes, p, f"options.growth={listed(range(1, 1 + min(2, count)))}"],
    }[name]]  # fmt: skip


def variational(name: str, count: int) -> list[str]:
    """An experiment of the fourth paper likewise."""
    drawn = ["options.monte_carlo_masks=64", "options.rotations=20"]
    counts, posterior = listed(range(1, 1 + count)), ["data.samples=14", "options.full=2", "options.restarts=1"]
    trained = ["training.steps=2", "training.log_points=2", "training.samples=2", "seed=[0,1]", "options.ensemble=2"]
    many = [f"options.reflections={counts}", f"options.drop_rates={listed(rates(count))}"]
    images = [f"model.hidden={listed([6] * count)}", "data.subset=60", "options.pool=7", "options.halves=false"]
    return {
        "structured_noise": ["model.width=13", f"options.reflections={counts}", "seed=[0]", *drawn],
        "structured_posterior": [f"options.inputs={listed(range(2, 2 + count))}", f"options.reflections={counts}",
                                 "options.iterations=3", *posterior],
        "variational_regression": ["data.table=diabetes", "model.hidden=[6]", *trained, *many],
        "variational_classification": [*images, *trained],
    }[name]  # fmt: skip


def adaptive(name: str, count: int) -> list[str]:
    """The same of an experiment whose noise follows the weights."""
    values = listed(round(float(x), 3) for x in np.geomspace(0.05, 0.8, count))
    methods = ["plain", "log_sum", *("ada_tikhonov", "eta_trick", "dropout", "var_drop", "var_drop_lr")[: count - 2]]
    return {
        "adaptive_penalties": ["options.points=30", "options.masks=64"],
        "adaptive_regression": [
            "data.samples=20", "data.features=30", f"options.strengths={values}", f"options.mask_strengths={values}",
            "training.steps=20", "seed=[0,1]",
        ],
        "adaptive_sparsification": [
            "data.subset=100", "model.hidden=[8,8]", "training.batch_size=50", "training.epochs=1",
            f"options.grid={values}", f"options.methods={listed(methods)}", "options.grid_methods=[plain,log_sum]",
        ],
    }[name]  # fmt: skip


def pruned(name: str, count: int) -> list[str]:
    """The same of an experiment that prunes."""
    values = listed(round(float(x), 3) for x in np.geomspace(0.05, 0.8, count))
    return {
        "incremental_schedule": [
            "options.groups=12", f"options.ratios={values}", f"options.penalties={values}", "options.changed=2",
            "options.updates=60", "seed=[0,1]",
        ],
        "incremental_pruning": [
            "data.subset=60", "model.channels=[8,8]", "model.hidden=8", "training.batch_size=20", "training.updates=4",
            "training.pruning=2", f"options.ratios={values}", "options.reference=0.05", f"options.gentleness={values}",
            "options.methods=[one_shot,inc_reg]", "options.floor.updates=2", "seed=[0,1]",
        ],
    }[name]  # fmt: skip


def structured(count: int) -> list[str]:
    """The same of the sixth paper's, at so many numbers of pairs and seeds."""
    pairs, seeds = listed(range(10, 10 + 15 * count, 15)), listed(range(min(count, 2)))
    return [f"options.pairs={pairs}", f"seed={seeds}", "model.hidden=[6,5,4]", "training.steps=2", "training.checks=2"]


def replicated(name: str, count: int) -> Record:
    """Our own record of an experiment with the networks of one cell standing for those of a larger grid."""
    record = Run(
        settings.load([f"experiment={name}", "scale=cpu", "device=cpu", "results=results/reference/cpu"])
    ).record()
    assert record is not None
    dims: dict[str, list[float]] = {"retain": rates(count)}
    cells, kept = record.cells, record.cells[:0]
    if name in LAYERS[:3]:
        kept = cells[cells.scheme == "none"]
        cells = cells[cells.scheme != "none"]
        dims |= {"block_size": DIVISORS[:count]}
    else:
        dims |= {"width": [*range(4, 4 + count)], "depth": [*range(2, 2 + count)]}
    if name == "dropblock_approximation":
        cells = cells[cells.place == "features"]
    same = [key for key in (*dims, "scheme") if key in cells and name != "dropblock_approximation"]
    cells = cells[(cells[same] == cells[same].iloc[0]).all(axis=1)]
    rows, curves, order = [kept], [record.curves[record.curves.cell.isin(kept.cell)]], kept.cell.tolist()
    first = record.cells.cell.max() + 1
    for values in product(*dims.values()):
        new = cells.assign(**dict(zip(dims, values, strict=True)), cell=np.arange(first, first + len(cells)))
        mine = record.curves[record.curves.cell.isin(cells.cell)]
        curves.append(mine.assign(cell=mine.cell.map(dict(zip(cells.cell, new.cell, strict=True)))))
        rows.append(new)
        order += cells.cell.tolist()
        first += len(cells)
    table = pd.concat(rows, ignore_index=True)
    numbers = {old: new for new, old in enumerate(table.cell)}
    arrays = {key: array[order] if len(array) == len(record.cells) else array for key, array in record.arrays.items()}
    if name not in LAYERS[:3]:
        shapes = np.array([*product(dims["depth"], dims["width"])]).T
        arrays |= {
            key: np.resize(array, len(shapes[0])) for key, array in arrays.items() if key.startswith("collapse_")
        }
        arrays |= {key: np.resize(arrays[key], (len(shapes[0]), arrays[key].shape[1])) for key in arrays if key in
                   ("curve_rank", "curve_effective_rank", "random_ratio")}  # fmt: skip
        arrays |= dict(zip(("collapse_depth", "collapse_width"), shapes, strict=True)) | {"random_depth": shapes[0]}
    made = Record(record.path)
    made.__dict__.update(
        cells=table.assign(cell=range(len(table))),
        curves=pd.concat(curves).assign(cell=lambda rows: rows.cell.map(numbers)),
        arrays=arrays,
        config=record.config,
    )
    return made


@pytest.fixture(scope="session")
def figures_of(run_linear):
    """The figures of an experiment at so many values a dimension."""

    def draw(name: str, count: int, look: Look | None = None) -> dict[str, Figure]:
        if name in REPLICATED:
            record = replicated(name, count)
            shows = experiment(settings.load([f"experiment={name}", "scale=smoke", "device=cpu"]))
        else:
            if name in VARIATIONAL:
                typed = variational(name, count)
            elif name in STRUCTURED:
                typed = structured(count)
            else:
                typed = (adaptive if name in ADAPTIVE else pruned if name in PRUNED else grid)(name, count)
            run = run_linear(f"experiment={name}", *typed, small=name not in OTHERS)
            record, shows = run.record, experiment(run.config)
        with plotting.style(look):
            return {figure: make() for figure, make in shows.figures(record).items()}

    return draw


def flaws(figure: Figure) -> Iterator[str]:
    """What one would send back: text or legends beyond the edge, or on top of panels or of each other; axes without
    numbers."""
    plotting.lay_out(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    page = figure.bbox
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        if box.x0 < page.x0 - 1 or box.x1 > page.x1 + 1 or box.y0 < page.y0 - 1:
            yield f"the legend is cut off: {box} on {page}"
        if any(box.y1 > axes.get_window_extent(renderer).y0 for axes in figure.axes if axes.has_data()):
            yield "the legend lies on a panel"
    for axes in figure.axes:
        if axes.get_legend() is not None:
            yield "a legend lies in a panel"
        if axes.get_window_extent(renderer).width < 40 and axes.has_data() and axes.get_label() != "<colorbar>":
            yield "a panel has no room"
        for axis, low, high in ((axes.xaxis, "x0", "x1"), (axes.yaxis, "y0", "y1")):
            ends = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if ends[0] <= tick.get_loc() <= ends[1]]
            boxes = [text.get_window_extent(renderer) for tick in ticks if (text := tick.label1).get_visible()]
            if axis.get_scale() == "log" and len(ticks) < 2 and len({*map(float, ends)}) > 1 and not _one_value(axes):
                yield f"{axis.get_label_text()}: {len(ticks)} ticks"
            boxes = sorted((box for box in boxes if box.width), key=lambda box: getattr(box, low))
            if any(getattr(one, high) > getattr(other, low) + 1 for one, other in pairwise(boxes)):
                yield f"{axis.get_label_text()}: numbers on top of each other"


def _one_value(axes) -> bool:
    return len({float(x) for line in axes.get_lines() for x in np.atleast_1d(line.get_xdata())}) <= 1


@pytest.mark.parametrize(
    ("name", "count"),
    [*product([*RUN, *REPLICATED], (1, 2, 12)), *product(NINE, (9,)), *product(OTHERS, (1, 12))],
)
def test_every_grid_has_its_figures(figures_of, name, count):
    for title, figure in figures_of(name, count).items():
        assert any(axes.has_data() for axes in figure.axes), title
        if count in (1, 12):
            assert not [*flaws(figure)], title
        for legend in figure.legends:
            looks = [(to_hex(h.get_color()), h.get_marker(), h.get_linestyle(), h.get_markerfacecolor())
                     for h in legend.legend_handles]  # fmt: skip
            names = [text.get_text() for text in legend.get_texts()]
            assert len(looks) == len(set(looks)) == len(names) == len(set(names)), title


@pytest.mark.parametrize("count", COUNTS)
def test_every_value_is_drawn_under_its_own_name(figures_of, run_linear, count):
    """The Monte-Carlo markers in the colour that the legend calls θ are those of the record at that θ."""
    figure = figures_of("dropblock_objective", count)["objective"]
    curves = run_linear("experiment=dropblock_objective", *grid("dropblock_objective", count)).curves
    (legend,) = figure.legends
    handles, names = legend.legend_handles, [text.get_text() for text in legend.get_texts()]
    assert [name for name in names if "theta" in name] == [rf"$\theta = {rate:g}$" for rate in rates(count)]
    for axes, size in zip(figure.axes, DIVISORS[:count], strict=True):
        for rate in rates(count):
            color = handles[names.index(rf"$\theta = {rate:g}$")].get_color()
            (markers,) = [
                line for line in axes.get_lines() if line.get_linestyle() == "None" and line.get_color() == color
            ]
            rows = curves[(curves.block_size == size) & (curves.retain == rate)].sort_values("step")
            np.testing.assert_array_equal(markers.get_ydata(), rows.monte_carlo)
