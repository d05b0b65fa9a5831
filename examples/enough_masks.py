"""How many masks does a mean of the stochastic objective need?

Its error falls as 1/√m in the number m of masks, whatever the noise.
"""

from itertools import product

import numpy as np
import pandas as pd

from repro.data.linear import load
from repro.papers.structured_dropout.linear import grid
from repro.papers.structured_dropout.linear_figures import panels_of, rates
from repro.papers.structured_dropout.settings import LinearConfig
from repro.pipeline import plotting
from repro.pipeline.claims import Claim
from repro.pipeline.settings import Count, OneOrMany, Section
from repro.pipeline.store import Piece, Result, Run
from repro.training.sweep.engine import initial_factors
from repro.training.sweep.noise import Problem, noise_of


class Options(Section):
    masks: OneOrMany[Count]
    repeats: Count


class Config(LinearConfig):
    options: Options


def run(config, progress):
    data, repeats = load(config.data), config.options.repeats
    cells, table = grid(config, data)  # noise × block size × rate × seed, a row each
    problem = Problem.from_data(*data)
    U, V = initial_factors(problem, cells, config.model.init_scale)

    def part(start, stop):
        rows = []
        for i, count in product(range(start, stop), config.options.masks):
            noise, generator = noise_of(problem, [cells[i]]), cells[i].generator(f"{count} masks")
            losses = noise.sampled_objective(U[[i]], V[[i]], [generator], count * repeats).view(repeats, count)
            error = losses.mean(1) / noise.objective(U[[i]], V[[i]]) - 1  # against theory's exact expectation
            rows.append({"cell": i, "step": count, "error": float(error.square().mean().sqrt())})
        return Piece(pd.DataFrame(rows))

    return Result(table, Run(config).parts.each(part, len(cells)).table)


def slope(record):
    """Of log error on log m, for each seed."""
    found = record.table("curves").groupby(["seed", "step"]).error.mean().reset_index()
    return found.groupby("seed")[["step", "error"]].apply(lambda rows: np.polyfit(*np.log(rows.T.to_numpy()), 1)[0])


QUANTITY, BECAUSE = "slope of log error on log m", "200 means know their error to 5 %"
CLAIMS = (Claim("root", "Errors fall as 1/√m.", "folklore", QUANTITY, BECAUSE, slope, -0.55, -0.45, figure="error"),)
CAPTIONS = {"error": "Relative error of a mean over m masks (markers) on lines that fall as 1/√m."}


def figures(record):
    return {"error": lambda: draw(panels_of(record), *rates(record))}


def draw(panels, rate, labels):
    figure, axes = plotting.titled({name: name for name in panels}, sharey=True)
    for name, axis in axes.items():
        for color, marker, value in plotting.styles(labels):
            found = plotting.over_seeds(panels[name][panels[name][rate] == value], "step", "error")
            axis.plot(found.step, found["mean"], color=color, marker=marker, **plotting.MEASURED)
            plotting.line(axis, found.step, found["mean"].iloc[0] * found.step**-0.5, color=color)
        axis.set(xscale="log", yscale="log", xlabel="masks $m$")
    plotting.label_rows(axes.values(), "relative error")
    key = plotting.Key()
    key.series(labels.values())
    key.below(figure)
    return figure
