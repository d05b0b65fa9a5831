"""Effective rank, spectra and objective: lines are theory, markers SGD (mean ± std over seeds)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.papers.structured_dropout.linear_figures import (
    SYMBOLS,
    of,
    rates,
    say_what_has_no_closed_form,
    series,
    spectrum,
    styles,
)
from repro.papers.structured_dropout.rank_collapse import ERRORS
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> dict[str, Figure]:
    return {
        name: say_what_has_no_closed_form(figure, record)
        for name, figure in (("collapse", _collapse(record)), ("objective", _objective(record)))
    } | ({"price": _price(record)} if "price_steps" in record.arrays else {})


def _collapse(record: Record) -> Figure:
    """Effective rank against the rate, and spectra at some rates."""
    cells, names, (rate, labels) = record.cells, series(record), rates(record)
    values = [*labels]
    count = min(len(values), record.config["options"]["spectra"])
    if count < len(values):
        values = [values[round(i)] for i in np.linspace(0, len(values) - 1, count + 2)[1:-1]]
    figure, axes = plotting.panels(1 + len(values), height=1.9)
    _against_rate(axes[0], record, "effective_rank", "closed_form_effective_rank")
    axes[0].set_ylabel("effective rank")
    for axis, value in zip(axes[1:], values, strict=True):
        mine = cells[cells[rate] == value]
        handles = spectrum(axis, record, [of(mine, key) for key in names])
        axis.set(title=labels[value], xlabel="index $i$")
        axis.sharey(axes[1])
    shown = cells[cells[rate].isin(values)].cell.to_numpy()
    theory, measured = record.arrays["closed_form"][shown], record.arrays["singular_values"][shown]
    axes[1].set_ylim(0, 1.05 * np.nanmax(np.where(np.isnan(theory), measured, theory), initial=1e-9))
    axes[1].set_ylabel(r"$\sigma_i(UV^\top X)\ /\ \sigma_1(Y)$")
    plotting.legend_below(figure, handles, [*names.values(), "closed form", "SGD"])
    return figure


def _objective(record: Record) -> Figure:
    """The attained objective against the rate beside the closed form's."""
    figure, (axis,) = plotting.panels(1)
    _against_rate(axis, record, "objective", "closed_form")
    axis.set_ylabel(r"deterministic objective $/\ \|Y\|_2^2$")
    if axis.get_legend_handles_labels()[0]:  # none where every cell diverged
        axis.legend()
    return figure


def _price(record: Record) -> Figure:
    """Each error at the end of trainings of several lengths; the record's own is the last of its number of masks."""
    training = record.config["training"]
    own = record.cells[record.cells.seed == record.cells.seed.min()]
    rows = pd.DataFrame({name: record.arrays[f"price_{name}"] for name in ("steps", "masks", *ERRORS)})
    last = {"steps": training["steps"], "masks": training["masks_per_step"], **own[[*ERRORS]].abs().max()}
    rows = pd.concat([rows, pd.DataFrame([last])])
    figure, axes = plotting.panels(len(ERRORS))
    for axis, (column, (name, limit)) in zip(axes, ERRORS.items(), strict=True):
        for color, marker, (masks, mine) in styles(rows.groupby("masks")):
            label = f"{masks:g} mask{'s' if masks > 1 else ''} a step"
            axis.plot(mine.steps, mine[column], color=color, marker=marker, markerfacecolor="white", label=label)
        axis.axhline(limit, color="0.6", linestyle=":", linewidth=0.8)
        axis.set(xscale="log", yscale="log", xlabel="steps of the training", ylabel=name)
        plotting.plain_log_ticks(axis)
    plotting.legend_below(figure, *axes[0].get_legend_handles_labels())
    return figure


def _against_rate(axis: Axes, record: Record, column: str, theory: str) -> None:
    names, (rate, _) = series(record), rates(record)
    cells = record.cells[~record.cells.diverged]
    x, y = (record.arrays[f"curve_{name}"].reshape(len(names), -1) for name in (rate, theory))
    for color, marker, (i, (key, label)) in styles(enumerate(names.items())):
        axis.plot(x[i], y[i], color=color)
        rows = plotting.over_seeds(of(cells, key), rate, column)
        axis.errorbar(
            rows[rate], rows["mean"], rows["std"], linestyle="none", color=color, marker=marker,
            markerfacecolor="white", elinewidth=0.8, label=label,
        )  # fmt: skip
    axis.set(xlabel=f"retain probability ${SYMBOLS[rate]}$")
