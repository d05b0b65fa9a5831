"""E7: is disjoint DropBlock, which the theory analyses, a fair stand-in for the original with overlapping blocks?

Networks from the same starts on the same order of data, with either at the same mean drop rate: on the features of
the last hidden layer (one-dimensional blocks) and on convolutional feature maps (square ones).
"""

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, Field, PositiveInt, field_validator

from repro.claims import Claim
from repro.config import DeepConfig as Config
from repro.experiments.last_layer_dropout import task
from repro.progress import Progress
from repro.records import Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMES = {"none": "no dropout", "disjoint": "disjoint", "original": "original (overlapping)"}
PLACES = {"features": "last hidden layer", "maps": "convolutional maps"}


class Options(BaseModel, extra="forbid", frozen=True):
    """`places`: where is dropped; `dropout` in the configuration is that of the features, alone.

    `map_block_size`, `map_retain`: the side of the squares and θ on maps.
    `map_stages`: after which stages maps are dropped, counted from the end; Ghiasi et al. (2018) take the last two.
    Masks on maps are drawn for each sample and each channel, as torchvision does; torchvision divides by the
    fraction kept in the batch, the disjoint ones by θ.
    """

    places: tuple[Literal["features", "maps"], ...] = ("features", "maps")
    map_block_size: PositiveInt = 3
    map_retain: float = 0.8
    map_stages: tuple[Annotated[int, Field(ge=-4, le=-1)], ...] = (-2, -1)
    monte_carlo_masks: PositiveInt = 4096

    @field_validator("map_block_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd: the original, torchvision's, takes no even sizes")
        return value

    @field_validator("map_retain")
    @classmethod
    def _probability(cls, value: float) -> float:
        if not 0 < value < 1:
            raise ValueError("must lie in (0, 1)")
        return value


def grid_size(cfg: Config) -> int:
    return len(grid(cfg)) * len(cfg.seed)


def run(cfg: Config, progress: Progress) -> Result:
    from repro.data.images import load
    from repro.experiments import deep

    images = load(cfg.data)
    jobs, rows = [], []
    for seed, (place, scheme, size, retain) in product(cfg.seed, grid(cfg)):
        masks, maps = None, None
        if scheme != "none" and place == "features":
            masks = _masks(scheme, cfg.model.width, size, retain)
        elif scheme != "none":
            maps = partial(_map_dropout, scheme, size, retain, cfg.options.map_stages)
        jobs.append(
            deep.Job(
                task=task(cfg, images, seed, masks, maps),
                device=cfg.device,
                block_size=size if place == "features" else 1,
                monte_carlo_masks=cfg.options.monte_carlo_masks,
            )
        )
        rows.append({"place": place, "scheme": scheme, "block_size": size, "retain": retain, "seed": seed})
    trained = deep.train_all(jobs, cfg, progress)
    curves = deep.curves(trained)
    table = pd.DataFrame(rows).rename_axis("cell").reset_index()
    final = deep.final(curves)
    table = table.assign(**{column: final[column] for column in final})
    return Result(table, curves, {}, _headline(table))


def grid(cfg: Config) -> list[tuple[str, str, int, float]]:
    """(place, scheme, block size, θ) of every network of one seed; without dropout once, with place "none"."""
    from repro.theory import retain_probability

    cells: list[tuple[str, str, int, float]] = [("none", "none", 1, 1.0)]
    if "features" in cfg.options.places:
        for size, rate in product(cfg.dropout.block_size, cfg.dropout.p or cfg.dropout.retain or ()):
            retain = retain_probability(rate, cfg.model.width, size) if cfg.dropout.p else rate
            cells += [("features", scheme, size, retain) for scheme in ("disjoint", "original")]
    if "maps" in cfg.options.places:
        size, retain = cfg.options.map_block_size, cfg.options.map_retain
        cells += [("maps", scheme, size, retain) for scheme in ("disjoint", "original")]
    return cells


def _masks(scheme: str, width: int, size: int, retain: float) -> Any:
    from repro.dropout import DropBlock, OverlappingDropBlock

    return (DropBlock if scheme == "disjoint" else OverlappingDropBlock)(width, size, retain)


def _map_dropout(scheme: str, size: int, retain: float, stages: tuple[int, ...], stage: int) -> Any:
    from torch import nn

    from repro.dropout.layers import DisjointDropBlock2d, OriginalDropBlock2d

    if stage not in stages:
        return nn.Identity()
    return DisjointDropBlock2d(size, retain) if scheme == "disjoint" else OriginalDropBlock2d(size, retain)


def differences(curves: pd.DataFrame, column: str) -> pd.DataFrame:
    """disjoint − original of `column` at the same place, block size, θ, seed and epoch: `difference`."""
    keys = ["place", "block_size", "retain", "seed", "step"]
    pair = curves[curves.scheme != "none"].pivot_table(index=keys, columns="scheme", values=column)
    pair = pair.reindex(columns=["disjoint", "original"])  # all of one may have diverged
    return (pair.disjoint - pair.original).rename("difference").reset_index()


def _headline(table: pd.DataFrame) -> dict[str, float]:
    diverged, table = float(table.diverged.sum()), table[~table.diverged]
    found = {"test accuracy, no dropout": float(table.test_accuracy[table.scheme == "none"].mean())}
    final = table.assign(step=0)
    for place in (place for place in PLACES if place in set(table.place)):
        for scheme in ("disjoint", "original"):
            mine = table[(table.place == place) & (table.scheme == scheme)]
            found[f"test accuracy, {scheme}, {place}"] = float(mine.test_accuracy.mean())
            found[f"train loss, {scheme}, {place}"] = float(mine.train_loss.mean())
        gap = differences(final, "test_accuracy")
        gap = gap.difference[gap.place == place]
        found[f"disjoint - original, test accuracy, {place}"] = float(gap.mean())
        found[f"its standard error over seeds, {place}"] = float(gap.sem()) if len(gap) > 1 else float("nan")
    return found | {"diverged networks": diverged}


# ---------------------------------------------------------------------- claims

ACCURACY_MARGIN = 0.01
"""Differences in test accuracy below one percentage point would change nobody's choice of scheme."""

LOSS_MARGIN = {"features": 0.2, "maps": 0.3}
"""Of what dropout itself changes: below it, which of the two one takes matters little next to whether one drops.

On maps the original drops the middle more often than the edges (3×3 blocks at θ = 0.8: 36 % of the time in the middle
of a 7×7 map, 5 % in its corners), which no disjoint form does, so more is allowed there.
"""


def _difference(place: str, column: str, *, of_effect: bool = False) -> Any:
    """disjoint − original for each seed at the end of training, mean over block sizes and θ.

    With `of_effect` as a fraction of original − none, what dropout changes at all.
    """

    def measure(record: Record) -> pd.Series:
        final = record.cells.assign(step=0)
        if place not in set(final.place):
            return pd.Series(dtype=float)
        rows = differences(final, column)
        rows = rows[rows.place == place]
        found = rows.difference.groupby(rows.seed).mean()
        if of_effect:
            mine = final[(final.place == place) & (final.scheme == "original")]
            bare = final[final.scheme == "none"].set_index("seed")[column]
            found = found / (mine[column].groupby(mine.seed).mean() - bare)
        return found

    return measure


def _equivalent(place: str, words: str) -> tuple[Claim, Claim]:
    return (
        Claim(
            id=f"equal_accuracy_{place}",
            statement=f"Disjoint DropBlock on {words} generalises as the original with overlapping blocks does.",
            source="E7; the approximation that the analysis rests on",
            quantity="test accuracy, disjoint − original at matched drop rate, mean over seeds",
            low=-ACCURACY_MARGIN,
            high=ACCURACY_MARGIN,
            because="an equivalence test: the whole confidence interval within one percentage point",
            measure=_difference(place, "test_accuracy"),
            rule="interval",
            scales=("cpu", "gpu"),
            figure="test",
        ),
        Claim(
            id=f"equal_loss_{place}",
            statement=f"Disjoint DropBlock on {words} trains as the original with overlapping blocks does.",
            source="E7; the approximation that the analysis rests on",
            quantity="training loss under the masks, (disjoint − original) / (original − none), mean over seeds",
            low=-LOSS_MARGIN[place],
            high=LOSS_MARGIN[place],
            because="an equivalence test: the whole confidence interval within a fraction of what dropout changes, a "
            "larger one on maps, where the original drops the middle more often than the edges and squares do not",
            measure=_difference(place, "train_loss", of_effect=True),
            rule="interval",
            scales=("cpu", "gpu"),
            figure="training",
            caveat="The original drops the middle of a map more often than its edges; at the same mean rate it is the "
            "stronger noise where pictures have their object in the middle.",
        ),
    )


CLAIMS = (*_equivalent("features", "the last hidden layer"), *_equivalent("maps", "convolutional maps"))


CAPTIONS = {
    "training": "Training loss under the masks, disjoint and original blocks at the same mean drop rate, mean ± one "
    "standard deviation over seeds.",
    "test": "Test error of the same networks: on top of each other if disjoint blocks are a fair stand-in.",
}
"""What to look for in each figure."""


def figures(record: Record) -> dict[str, "Figure"]:
    curves = record.table("curves")
    return {
        "training": _curves(curves, "train_loss", "training loss under dropout", log=True),
        "test": _curves(curves.assign(error=1 - curves.test_accuracy), "error", "test error", log=True),
    }


def _curves(curves: pd.DataFrame, column: str, label: str, *, log: bool) -> "Figure":
    """Disjoint beside original along training, a panel a place, block size and θ: mean and band over seeds."""
    from repro import plotting

    curves = curves[curves.step > 0]
    bare = plotting.surviving(curves[curves.scheme == "none"])
    dropped = curves[curves.scheme != "none"]
    groups = list(dropped.groupby(["place", "block_size", "retain"], sort=False))
    figure, axes = plotting.panels(len(groups), columns=3, sharey=True)
    for axis, ((place, size, retain), rows) in zip(axes, groups, strict=True):
        rows = plotting.surviving(rows)
        lines = {"none": bare, **{s: rows[rows.scheme == s] for s in ("disjoint", "original")}}
        if log:
            axis.set_yscale("log")
            plotting.plain_log_ticks(axis)
        for color, marker, (scheme, mine) in zip(
            ("0.5", *plotting.COLORS), plotting.MARKERS, lines.items(), strict=False
        ):
            mean = plotting.over_seeds(mine, "step", column)
            axis.plot(mean.step, mean["mean"], color=color, marker=marker, label=SCHEMES[scheme])
            plotting.band(axis, mean.step, mean["mean"], mean["std"], color)
        blocks = f"$r = {size}$" if place == "features" else rf"${size} \times {size}$"
        axis.set(title=rf"{PLACES[place]}, {blocks}, $\theta = {retain:g}$", xlabel="epoch")
    axes[0].set_ylabel(label)
    plotting.legend_below(figure, *axes[0].get_legend_handles_labels())
    return figure
