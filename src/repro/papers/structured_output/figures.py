"""What both experiments show: errors against pairs, their distribution, training."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.papers.structured_output.settings import ARMS, BASELINES, PRETRAINED, TITLES
from repro.pipeline import plotting
from repro.pipeline.intervals import reach
from repro.pipeline.plotting import COLORS, DASHED
from repro.pipeline.store import Record

LOOKS = {
    "plain": (COLORS[6], "o"),
    "in": (COLORS[4], "v"),
    "out": (COLORS[1], "s"),
    "in+out": (COLORS[0], "D"),
    PRETRAINED: (COLORS[2], "^"),
    "mean": ("0.65", "X"),
    "ridge": ("0.45", "P"),
    "components": ("0.45", "*"),
}


def common(record: Record, label: str) -> plotting.Drawings:
    """What both experiments draw; `label` says what an error is."""
    return {
        "pairs": partial(pairs, record, label),
        "distribution": partial(distribution, record, label),
        "training": partial(training, record),
        "weights": partial(weights, record),
    }


def most_data(cells: pd.DataFrame) -> pd.DataFrame:
    """Of every arm at every number of pairs the networks that also learn from what is known alone, where there are."""
    return cells[cells.extra == cells.groupby(["arm", "pairs"]).extra.transform("any")]


def intervals(values: "pd.api.typing.SeriesGroupBy") -> pd.DataFrame:
    """Mean and half of its 95 % interval over seeds, 0 for one seed: `mean`, `reach`."""
    return pd.DataFrame({"mean": values.mean(), "reach": values.agg(lambda some: reach(some.to_numpy(float)))})


def pairs(record: Record, label: str) -> Figure:
    """Errors against the number of pairs; gains over the plain network of the same seed; what is gained by what is
    known alone."""
    cells = plotting.surviving(record.cells)
    figure, (left, middle, right) = plotting.panels(3, columns=3, height=2.2)
    numbers = sorted(set(cells.pairs))
    main = most_data(cells)
    for arm, (color, marker) in LOOKS.items():
        rows = main[main.arm == arm]
        _marks(left, intervals(rows.groupby("pairs").error), color, marker, numbers, 0.0)
    plain = cells[cells.arm == "plain"].set_index(["pairs", "seed"]).error
    paired = cells.join(plain.rename("plain"), on=["pairs", "seed"])
    paired["gain"] = 100 * (1 - paired.error / paired.plain)
    arms = [*ARMS[1:], PRETRAINED]
    for place, arm in enumerate(arms):
        rows = most_data(paired[paired.arm == arm])
        _marks(middle, intervals(rows.groupby("pairs").gain), *LOOKS[arm], numbers, place - (len(arms) - 1) / 2)
    middle.axhline(0, color="0.4", linewidth=0.8)
    for axis in (left, middle):
        axis.set(xscale="log" if len(numbers) > 1 else "linear", xlabel="pairs")
        plotting.mark(axis.xaxis, numbers)
    left.set_ylabel(label)
    middle.set_ylabel("gain over plain, %")
    _alone(right, cells[cells.pairs == numbers[0]], numbers[0])
    key = plotting.Key()
    for arm, (color, marker) in LOOKS.items():
        if arm in set(cells.arm):
            key.add(TITLES[arm], **plotting.MEASURED | {"color": color, "marker": marker})
    key.below(figure)
    return figure


def _marks(axis: Axes, table: pd.DataFrame, color: str, marker: str, numbers: list[int], shift: float) -> None:
    """Means and intervals; `shift` keeps marks at one number of pairs apart."""
    step = np.diff(np.log(numbers)).min(initial=1.0)
    x = np.exp(np.log(table.index.to_numpy(float)) + 0.13 * step * shift)
    axis.plot(x, table["mean"], color=color, linewidth=0.5, alpha=0.6)
    axis.errorbar(x, table["mean"], table.reach, color=color, marker=marker, elinewidth=0.8, **plotting.MEASURED)


def _alone(axis: Axes, cells: pd.DataFrame, pairs: int) -> None:
    """Gains by what is known alone, over the same arm without it."""
    shown = {
        "outputs": ("out", "out"),
        "shuffled outputs": ("out", "shuffled"),
        "inputs": ("in", "in"),
        "noise for inputs": ("in", "noise"),
        "both": ("in+out", "in+out"),
    }
    by = cells.set_index(["arm", "extra", "seed"]).error.sort_index()
    arms = by.index.droplevel("seed").unique()
    plain = by.loc["plain", False] if ("plain", False) in arms else None
    drawn = [name for name, (base, arm) in shown.items() if {(base, False), (arm, True)} <= set(arms)]
    for row, name in enumerate(drawn):
        base, arm = shown[name]
        gains = 100 * (by.loc[base, False] - by.loc[arm, True]) / plain
        table = intervals(gains.groupby(np.zeros(len(gains))))
        look = {"color": LOOKS[base][0], "marker": LOOKS[base][1], "elinewidth": 0.8, **plotting.MEASURED}
        axis.errorbar(table["mean"], [row], xerr=table.reach, **look)
    axis.axvline(0, color="0.4", linewidth=0.8)
    axis.set_yticks(range(len(drawn)), drawn)
    axis.set_ylim(len(drawn) - 0.4, -0.6)
    axis.set_xlabel(f"gain, %, {pairs} pairs")
    axis.locator_params(axis="x", nbins=4)


def distribution(record: Record, label: str) -> Figure:
    """The cumulative distribution of the test errors, mean over seeds, and below it how far it lies above plain's."""
    cells = most_data(plotting.surviving(record.cells))
    numbers = sorted(set(cells.pairs))
    limits, cdf = record.arrays["limits"], record.arrays["cdf"]
    figure, (upper, lower) = plotting.stacked({n: f"{n} pairs" for n in numbers}, rows=2, height=1.3)
    shown = [*ARMS, *BASELINES[:2]]
    for n, axis in upper.items():
        mine = cells[cells.pairs == n]
        shares = {arm: cdf[rows.cell].mean(0) for arm, rows in mine.groupby("arm") if arm in shown}
        for arm in shown:
            if arm in shares:
                axis.plot(limits, shares[arm], color=LOOKS[arm][0], linestyle=_line(arm))
            if arm in shares and arm != "mean" and "plain" in shares:
                lower[n].plot(limits, shares[arm] - shares["plain"], color=LOOKS[arm][0], linestyle=_line(arm))
        for panel in (axis, lower[n]):
            panel.locator_params(axis="x", nbins=3)
        lower[n].set_xlabel(label)
    plotting.share_y(upper.values())
    plotting.share_y(lower.values())
    plotting.label_rows(upper.values(), "share")
    plotting.label_rows(lower.values(), "share − plain's")
    _key_of_lines(figure, [arm for arm in shown if arm in set(cells.arm)])
    return figure


def training(record: Record) -> Figure:
    """Validation error along training, mean ± standard deviation over seeds, and the weights of the costs."""
    curves = record.table("curves")
    curves = most_data(plotting.surviving(curves))
    numbers = sorted(set(curves.pairs))
    titles: dict[object, str] = {n: f"{n} pairs" for n in numbers}
    figure, axes = plotting.titled(titles, height=1.7)
    for n, axis in axes.items():
        for arm in ARMS:
            rows = curves[(curves.pairs == n) & (curves.arm == arm)]
            if rows.empty:
                continue
            table = plotting.over_seeds(rows.assign(root=rows.validation**0.5), "step", "root")
            axis.plot(table.step, table["mean"], color=LOOKS[arm][0], linestyle=_line(arm))
            plotting.band(axis, table.step, table["mean"], table["std"], LOOKS[arm][0])
        plotting.numbered(axis, "step")
        axis.locator_params(axis="x", nbins=3)
    plotting.label_rows(axes.values(), "validation RMSE")
    _key_of_lines(figure, [arm for arm in ARMS if arm in set(curves.arm)])
    return figure


def weights(record: Record) -> Figure:
    """Importance weights of +in+out at the checks on their schedules."""
    curves = record.table("curves")
    rows = curves[curves.arm == "in+out"]
    rows = rows[rows.cell == rows.cell.max()].sort_values("step")
    share = (rows.step - 1) / rows.step.max()
    figure, (axis,) = plotting.panels(1)
    key = plotting.Key()
    names = {"lambda_sup": ("supervised", "outputs' error"), "lambda_in": ("inputs", "inputs' auto-encoder"),
             "lambda_out": ("outputs", "outputs' auto-encoder")}  # fmt: skip
    at = np.linspace(0, 1, 501)
    for (column, (part, name)), (color, marker, _) in zip(names.items(), plotting.styles(names), strict=True):
        axis.plot(at, schedule(record.config["training"][part], at), color=color)
        axis.plot(share, rows[column], color=color, marker=marker, **plotting.MEASURED)
        key.add(name, color=color, marker=marker, markerfacecolor="white")
    axis.set(xlabel="share of training", ylabel="importance weight")
    key.below(figure)
    return figure


def schedule(part: dict, at: np.ndarray) -> np.ndarray:
    """As `repro.theory.importance`, without torch."""
    done = np.clip((at - part["begin"]) / (part["end"] - part["begin"]), 0, None)
    shapes = {
        "constant": np.ones_like(at),
        "abrupt": (at < part["end"]).astype(float),
        "linear": np.clip(1 - done, 0, None),
        "exponential": np.exp(-done),
    }
    return part["weight"] * shapes[part["shape"]]


def _line(arm: str) -> object:
    return {"in": DASHED, "ridge": DASHED}.get(arm, "-")


def _key_of_lines(figure: Figure, arms: list[str]) -> None:
    key = plotting.Key()
    for arm in arms:
        key.add(TITLES[arm], color=LOOKS[arm][0], linestyle=_line(arm))
    key.below(figure)
