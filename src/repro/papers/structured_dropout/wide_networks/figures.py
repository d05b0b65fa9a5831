"""The penalty's weight and the shrinkage against the width: lines are theory, markers SGD."""

from functools import partial

from matplotlib.figure import Figure

from repro.papers.structured_dropout.linear_figures import SYMBOLS, TITLES
from repro.pipeline import plotting
from repro.pipeline.store import Record

PANELS = {
    "weight": ("penalty_weight", r"penalty $/\ \|UV^\top X\|_{(r)}^2$"),
    "shrinkage": ("shrinkage", r"$\|m - \sigma\|\ /\ \|m\|$"),
}


def figures(record: Record) -> plotting.Drawings:
    return {"width": partial(_width, record)}


def _width(record: Record) -> Figure:
    cells = record.cells[~record.cells.diverged]
    held = cells.p.where(cells.fixed == "p", cells.retain)
    groups = dict(list(cells.groupby(["fixed", held, "scheme", "block_size"])))
    figure, axes = plotting.panels(len(PANELS))
    groups = plotting.some(groups, figure)
    several = cells.scheme.nunique() > 1
    for axis, (name, (column, label)) in zip(axes, PANELS.items(), strict=True):
        for color, marker, rows in plotting.styles(groups.values()):
            expected = plotting.over_seeds(rows, "width", f"expected_{name}")
            found = plotting.over_seeds(rows, "width", column)
            plotting.line(axis, expected.width, expected["mean"], color=color)
            axis.plot(found.width, found["mean"], color=color, marker=marker, **plotting.MEASURED)
            plotting.band(axis, found.width, found["mean"], found["std"], color)
        axis.set(xscale="log", yscale="log", xlabel="width $d$", ylabel=label)
        plotting.mark(axis.xaxis, cells.width)
    key = plotting.Key()
    key.series(
        f"${SYMBOLS[fixed]} = {rate:g}$ fixed, {TITLES.get(scheme, scheme) + ', ' if several else ''}$r = {size}$"
        for fixed, rate, scheme, size in groups
    )
    key.add("theory")
    key.below(figure)
    return figure
