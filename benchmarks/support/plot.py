"""Draws results/bench/*.json: every ratio in one figure, and the engine's costs in another."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from repro.pipeline import plotting
from support.timing import RESULTS


def main() -> None:
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    with plotting.style():
        figures = {"ratios": ratios({name: one["ratios"] for name, one in found.items()})}
        if "engine_scaling" in found:
            figures["scaling"] = scaling(found["engine_scaling"]["results"])
        for name, figure in figures.items():
            plotting.save(figure, RESULTS / name)
            print(f"{Path('results/bench') / name}.{{pdf,svg,png}}")


def ratios(found: dict[str, dict[str, dict[str, float]]]) -> Figure:
    """Peer's time over ours, median and quartiles; right of 1 we win. A vertical tick is what was aimed at."""
    rows = [(label, numbers) for some in found.values() for label, numbers in some.items()]
    figure = Figure(figsize=(plotting.PAGE, 0.7 + 0.16 * len(rows)), layout="constrained")
    axis = figure.subplots()
    for y, (_, numbers) in enumerate(reversed(rows)):
        middle, low, high = (numbers[key] for key in ("median", "quartile_1", "quartile_3"))
        axis.errorbar(middle, y, xerr=[[middle - low], [high - middle]], fmt="o", color=plotting.COLORS[middle < 1])
        if "target" in numbers:
            axis.plot(numbers["target"], y, marker="|", markersize=8, color="0.4")
    axis.axvline(1, color="0.6", linewidth=0.8, zorder=0)
    axis.set(xscale="log", xlabel="peer's time / ours (medians and quartiles; grey ticks: targets)")
    axis.set_yticks(range(len(rows)), [label for label, _ in reversed(rows)])
    axis.tick_params(axis="y", length=0)
    return figure


def scaling(results: dict[str, Any]) -> Figure:
    """Microseconds for an update of a cell against N, d and the number of cells."""
    figure, axes = plotting.panels(3, sharey=True)
    labels = {"N": "samples $N$", "d": "width $d$", "cells": "cells"}
    for axis, (name, label) in zip(axes, labels.items(), strict=True):
        points = {int(value): numbers for value, numbers in results["microseconds"][name].items()}
        middle = [numbers["median"] for numbers in points.values()]
        low = [numbers["median"] - numbers["quartile_1"] for numbers in points.values()]
        high = [numbers["quartile_3"] - numbers["median"] for numbers in points.values()]
        axis.errorbar(list(points), middle, yerr=[low, high], fmt="o", color=plotting.COLORS[0])
        axis.set(xscale="log", yscale="log", xlabel=label)
        if name != "N":
            plotting.mark(axis.xaxis, [*points])
    axes[0].set_ylabel("µs an update of a cell")
    return figure


if __name__ == "__main__":
    main()
