"""The penalty's weight and the shrinkage against the width: lines are theory, markers SGD."""

from matplotlib.figure import Figure

from repro.papers.structured_dropout.linear_figures import SYMBOLS, styles
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> dict[str, Figure]:
    cells = record.cells[~record.cells.diverged]
    panels = {
        "weight": ("penalty_weight", r"penalty $/\ \|UV^\top X\|_{(r)}^2$"),
        "shrinkage": ("shrinkage", r"$\|m - \sigma\|\ /\ \|m\|$"),
    }
    held = cells.p.where(cells.fixed == "p", cells.retain)
    figure, axes = plotting.panels(len(panels))
    for axis, (name, (column, label)) in zip(axes, panels.items(), strict=True):
        for color, marker, ((fixed, rate, size), rows) in styles(cells.groupby(["fixed", held, "block_size"])):
            title = f"${SYMBOLS[fixed]} = {rate:g}$ fixed, $r = {size}$"
            expected = plotting.over_seeds(rows, "width", f"expected_{name}")
            found = plotting.over_seeds(rows, "width", column)
            axis.plot(expected.width, expected["mean"], color=color)
            axis.plot(
                found.width, found["mean"], linestyle="none", color=color, marker=marker, markerfacecolor="white",
                label=title,
            )  # fmt: skip
            plotting.band(axis, found.width, found["mean"], found["std"], color)
        axis.set(xscale="log", yscale="log", xlabel="width $d$", ylabel=label)
        axis.set_xticks(sorted(cells.width.unique()))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        plotting.plain_log_ticks(axis)
    plotting.legend_below(figure, *axes[0].get_legend_handles_labels())
    return {"width": figure}
