"""Every method beside VD-EB on the same seeds."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.pipeline import plotting

REFERENCE = "VD-EB"


def paired(cells: pd.DataFrame, columns: dict[str, str], *, height: float = 2.0) -> Figure:
    """A row a column of `cells` (with its label), a panel a problem: means and 95 % intervals of the differences from
    VD-EB over seeds."""
    cells = plotting.surviving(cells[cells.chosen])
    problems = list(dict.fromkeys(cells.problem))
    figure, axes = plotting.panels(len(columns) * len(problems), columns=len(problems), height=height, sharey=True)
    for at, (column, label) in enumerate(columns.items()):
        for axis, problem in zip(axes[at * len(problems) :], problems, strict=False):
            _differences(axis, cells[cells.problem == problem], column)
            axis.set(title=problem if not at else "", xlabel=label)
    return figure


def _differences(axis: Axes, cells: pd.DataFrame, column: str) -> None:
    table = cells.assign(arm=cells.arm.str.replace(r"dropout .*", "MC dropout", regex=True))
    table = table.pivot_table(index="seed", columns="arm", values=column, sort=False)
    table = table[[arm for arm in dict.fromkeys(table) if arm != REFERENCE]].sub(table[REFERENCE], axis=0)
    count = table.notna().sum().clip(lower=1)
    reach = 1.96 * table.std().fillna(0) / np.sqrt(count)
    axis.errorbar(table.mean(), range(len(table.columns)), xerr=reach, fmt="o", color=plotting.COLORS[0])
    axis.axvline(0, color="0.4", linewidth=0.6)
    axis.locator_params(axis="x", nbins=4)
    axis.set_yticks(range(len(table.columns)), list(table.columns))
