"""Every method beside VD-EB on the same seeds."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.pipeline import plotting
from repro.pipeline.intervals import reach

REFERENCE = "VD-EB"


def paired(cells: pd.DataFrame, columns: Mapping[str, str]) -> Figure:
    """A row a column of `cells` (with its label), a panel a problem: means and 95 % intervals of the differences from
    VD-EB over seeds."""
    cells = plotting.surviving(cells[cells.chosen])
    cells = cells.assign(arm=cells.arm.str.replace(r"dropout .*", "MC dropout", regex=True))
    arms = [arm for arm in dict.fromkeys(cells.arm) if arm != REFERENCE]
    problems = {problem: f"{problem}" for problem in dict.fromkeys(cells.problem)}
    height = 0.55 + 0.16 * len(arms)
    figure, lines = plotting.stacked(problems, rows=len(columns), columns=3, height=height, sharey=True)
    for (column, label), axes in zip(columns.items(), lines, strict=True):
        for problem, axis in axes.items():
            _differences(axis, cells[cells.problem == problem], column, arms)
            axis.set_xlabel(label)
    return figure


def _differences(axis: Axes, cells: pd.DataFrame, column: str, arms: list[str]) -> None:
    table = cells.pivot_table(index="seed", columns="arm", values=column, sort=False)
    missing = pd.Series(np.nan, index=table.index)
    table = table.reindex(columns=arms).sub(table.get(REFERENCE, missing), axis=0)
    half = [reach(table[arm].dropna().to_numpy()) for arm in arms]
    axis.errorbar(table.mean(), range(len(arms)), xerr=half, fmt="o", color=plotting.COLORS[0])
    axis.axvline(0, color="0.4", linewidth=0.8)
    axis.locator_params(axis="x", nbins=4)
    axis.set_yticks(range(len(arms)), arms)
    axis.set_ylim(-0.6, len(arms) - 0.4)
