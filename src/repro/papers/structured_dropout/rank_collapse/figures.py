"""Effective rank, spectra and objective: lines are theory, markers SGD (mean ± std over seeds)."""

from collections.abc import Iterable
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.papers.structured_dropout.linear_figures import (
    RATES,
    of,
    rates,
    say_what_has_no_closed_form,
    series,
    spectrum,
    spectrum_key,
)
from repro.papers.structured_dropout.rank_collapse import ERRORS
from repro.pipeline import plotting
from repro.pipeline.store import Record


def figures(record: Record) -> plotting.Drawings:
    found = {"collapse": partial(_collapse, record), "objective": partial(_objective, record)}
    return found | ({"price": partial(_price, record)} if "price_steps" in record.arrays else {})


def _collapse(record: Record) -> Figure:
    """Effective rank against the rate, and spectra at some rates."""
    cells, (rate, labels) = record.cells, rates(record)
    values = [*labels]
    count = min(len(values), record.config["options"]["spectra"], plotting.MOST_PANELS - 1)
    if count < len(values):
        values = [values[round(i)] for i in np.linspace(0, len(values) - 1, count + 2)[1:-1]]
    figure, axes = plotting.panels(1 + len(values), height=1.9)
    names = plotting.some(series(record), figure)
    _against_rate(axes[0], record, names, "effective_rank", "closed_form_effective_rank")
    axes[0].set_ylabel("effective rank")
    for axis, value in zip(axes[1:], values, strict=True):
        mine = cells[cells[rate] == value]
        spectrum(axis, record, [of(mine, key) for key in names])
        axis.set(title=labels[value])
        plotting.numbered(axis, "index $i$")
        axis.sharey(axes[1])
    shown = cells[cells[rate].isin(values)].cell.to_numpy()
    theory, measured = record.arrays["closed_form"][shown], record.arrays["singular_values"][shown]
    axes[1].set_ylim(0, 1.05 * np.nanmax(np.where(np.isnan(theory), measured, theory), initial=1e-9))
    plotting.label_rows(axes[1:], label := r"$\sigma_i(UV^\top X)\ /\ \sigma_1(Y)$")
    axes[1].set_ylabel(label)
    spectrum_key(figure, names.values())
    return say_what_has_no_closed_form(figure, record)


def _objective(record: Record) -> Figure:
    """The attained objective against the rate beside the closed form's."""
    figure, (axis,) = plotting.panels(1)
    names = plotting.some(series(record), figure)
    _against_rate(axis, record, names, "objective", "closed_form")
    axis.set_ylabel(r"objective $/\ \|Y\|_2^2$")
    spectrum_key(figure, names.values())
    return say_what_has_no_closed_form(figure, record)


def _price(record: Record) -> Figure:
    """Each error at the end of trainings of several lengths; the record's own is the last of its number of masks."""
    training = record.config["training"]
    own = record.cells[record.cells.seed == record.cells.seed.min()]
    rows = pd.DataFrame({name: record.arrays[f"price_{name}"] for name in ("steps", "masks", *ERRORS)})
    last = {"steps": training["steps"], "masks": training["masks_per_step"], **own[[*ERRORS]].abs().max()}
    rows = pd.concat([rows, pd.DataFrame([last])])
    figure, axes = plotting.panels(len(ERRORS))
    for axis, (column, (name, limit)) in zip(axes, ERRORS.items(), strict=True):
        for color, marker, mine in plotting.styles(dict(list(rows.groupby("masks"))).values()):
            axis.plot(mine.steps, mine[column], color=color, marker=marker, markerfacecolor="white")
        axis.axhline(limit, color="0.6", linestyle=":", linewidth=0.8)
        axis.set(xscale="log", yscale="log", xlabel="steps of the training", ylabel=name)
    key = plotting.Key()
    masks = sorted(rows.masks.unique().tolist())
    key.series((f"{n:g} mask{'s' if n > 1 else ''} a step" for n in masks), linestyle="-", markerfacecolor="white")
    key.add("what the claims allow", color="0.6", linestyle=":", linewidth=0.8)
    key.below(figure)
    return figure


def _against_rate(axis: Axes, record: Record, names: Iterable[tuple[str, int]], column: str, theory: str) -> None:
    order, (rate, _) = [*series(record)], rates(record)
    cells = record.cells[~record.cells.diverged]
    x, y = (record.arrays[f"curve_{name}"].reshape(len(order), -1) for name in (rate, theory))
    for color, marker, key in plotting.styles(names):
        plotting.line(axis, x[order.index(key)], y[order.index(key)], color=color)
        rows = plotting.over_seeds(of(cells, key), rate, column)
        look = {"color": color, "marker": marker, "elinewidth": 0.8, **plotting.MEASURED}
        axis.errorbar(rows[rate], rows["mean"], rows["std"], **look)
    axis.set(xlabel=RATES[rate])
