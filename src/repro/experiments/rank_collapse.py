"""E4: how dropout and its block size lower the rank of what a linear network learns.

The spectrum and the effective rank of the trained UVᵀX against p and r, on top of the closed form: singular values
are shrunk by the prox of the squared r-support norm with weight λ = (1−p)/p.
"""

from math import inf
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import BaseModel

from repro.claims import Claim
from repro.config import LinearConfig as Config
from repro.experiments import linear, minimum
from repro.progress import Progress
from repro.records import Record, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# How many values of p the theory's curves are drawn through.
CURVE_POINTS = 120


class Options(BaseModel, extra="forbid", frozen=True):
    """`spectra`: at most so many values of p get a panel with their singular values."""

    spectra: int = 3


grid_size = linear.grid_size


def run(cfg: Config, progress: Progress) -> Result:
    from repro.data.linear import load

    data = load(cfg.data)
    trained = minimum.train_grid(data, cfg, progress)
    sizes = sorted(trained.cells.block_size.unique())
    rates = np.linspace(trained.cells.p.min(), trained.cells.p.max(), CURVE_POINTS)
    curve = minimum.closed_forms(
        data, pd.DataFrame([(r, p) for r in sizes for p in rates], columns=["block_size", "p"])
    ).drop(columns="singular_values")
    arrays = {
        "singular_values": trained.singular_values,
        "closed_form": trained.closed_form,
        **{f"curve_{column}": curve[column].to_numpy() for column in curve},
    }
    collapse = trained.cells.effective_rank / trained.cells.closed_form_effective_rank - 1
    found = minimum.headline(trained) | {"median relative error of the effective rank": float(collapse.abs().median())}
    return Result(trained.cells, trained.curves, arrays, found)


def _rank_error(record: Record) -> pd.Series:
    """Against exp(entropy) of the closed form's spectrum written out anew: a mistake in the theory's own measure of
    rank, which the measured and the expected value share, would not show in their ratio."""
    cells, spectra = record.cells, record.arrays["closed_form"]
    shares = spectra / spectra.sum(1, keepdims=True)
    expected = np.exp(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(1))
    error = (cells.effective_rank / expected[cells.cell] - 1).abs()
    return error.groupby(cells.seed).median()


def _ordering(record: Record) -> pd.Series:
    """Fraction of the pairs of cells, of one seed and one p or one r, whose effective ranks stand in theory's order."""
    found = {}
    for seed, cells in record.cells.groupby("seed"):
        first, second = np.triu_indices(len(cells), 1)
        rows = {column: cells[column].to_numpy() for column in cells}
        theory = rows["closed_form_effective_rank"]
        compared = (rows["p"][first] == rows["p"][second]) | (rows["block_size"][first] == rows["block_size"][second])
        compared &= np.abs(theory[first] - theory[second]) > DISTINCT * np.maximum(theory[first], theory[second])
        measured = rows["effective_rank"][first] - rows["effective_rank"][second]
        right = np.sign(measured) == np.sign(theory[first] - theory[second])
        if compared.any():
            found[seed] = float(right[compared].mean())
    return pd.Series(found, dtype=float)


DISTINCT = 0.02
"""Effective ranks that theory puts closer than this fraction are not asked to stand in order."""

CLAIMS = (
    *minimum.CLAIMS,
    Claim(
        id="effective_rank",
        statement="Dropout lowers the rank of what a network learns, by as much as the closed form says.",
        source="theorem on global minimisers, E4; paper section 1",
        quantity="median over the grid of the relative error of the effective rank",
        low=-inf,
        high=0.03,
        because="small singular values that SGD has not quite killed count in an effective rank",
        measure=_rank_error,
        scales=minimum.TRAINED,
        figure="collapse",
    ),
    Claim(
        id="rank_falls",
        statement="Rank falls with 1 − p and with smaller blocks, exactly where theory says.",
        source="E4; paper section 1",
        quantity="fraction of pairs of networks whose effective ranks stand in the closed form's order",
        low=1.0,
        high=1.0,
        because=f"every pair, but those that theory puts within {100 * DISTINCT:g} % of each other",
        measure=_ordering,
        scales=minimum.TRAINED,
        figure="collapse",
    ),
)


CAPTIONS = {
    "collapse": "Effective rank against p (left) and spectra at some p: markers (SGD, mean ± one standard deviation "
    "over seeds) on lines (closed form). Smaller p and smaller blocks leave fewer directions.",
    "objective": "The objective that training reaches (markers) on the closed-form minimum (lines).",
}
"""What to look for in each figure."""


def figures(record: Record) -> dict[str, "Figure"]:
    return {"collapse": _collapse(record), "objective": _objective(record)}


def _collapse(record: Record) -> "Figure":
    """Effective rank against p, and spectra at some p: lines are theory, markers SGD (mean ± std over seeds)."""
    from repro import plotting
    from repro.experiments.linear_figures import spectrum

    cells, rates = record.cells, sorted(record.cells.p.unique())
    sizes = sorted(cells.block_size.unique())
    count = min(len(rates), record.config["options"]["spectra"])
    chosen = [rates[round(i)] for i in np.linspace(0, len(rates) - 1, count + 2)[1:-1]] if count < len(rates) else rates
    figure, axes = plotting.panels(1 + len(chosen), height=1.9)
    _against_p(axes[0], record, "effective_rank")
    axes[0].set_ylabel("effective rank")
    for axis, p in zip(axes[1:], chosen, strict=True):
        handles = spectrum(axis, record, cells[cells.p == p], "block_size", sizes)
        axis.set(title=f"$p = {p:g}$", xlabel="index $i$")
        axis.sharey(axes[1])
    highest = record.arrays["closed_form"][cells[cells.p.isin(chosen)].cell.to_numpy()].max()
    axes[1].set_ylim(0, 1.05 * highest)
    axes[1].set_ylabel(r"$\sigma_i(UV^\top X)\ /\ \sigma_1(Y)$")
    plotting.legend_below(figure, handles, [*(f"$r = {r}$" for r in sizes), "closed form", "SGD"], columns=8)
    return figure


def _objective(record: Record) -> "Figure":
    """The attained objective against p beside the closed form's."""
    from repro import plotting

    figure, (axis,) = plotting.panels(1)
    _against_p(axis, record, "objective", theory="closed_form")
    axis.set_ylabel(r"deterministic objective $/\ \|Y\|_2^2$")
    if axis.get_legend_handles_labels()[0]:  # none where every cell diverged
        axis.legend()
    return figure


def _against_p(axis: "Axes", record: Record, column: str, theory: str | None = None) -> None:
    from repro import plotting

    arrays, cells = record.arrays, record.cells[~record.cells.diverged]
    for color, marker, size in zip(plotting.COLORS, plotting.MARKERS, sorted(cells.block_size.unique()), strict=False):
        mine = arrays["curve_block_size"] == size
        axis.plot(arrays["curve_p"][mine], arrays[f"curve_{theory or 'closed_form_' + column}"][mine], color=color)
        rows = plotting.over_seeds(cells[cells.block_size == size], "p", column)
        axis.errorbar(
            rows.p, rows["mean"], rows["std"], linestyle="none", color=color, marker=marker, markerfacecolor="white",
            elinewidth=0.8, label=f"$r = {size}$",
        )  # fmt: skip
    axis.set(xlabel="retain probability $p$")
