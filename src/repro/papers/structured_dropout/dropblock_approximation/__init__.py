"""E7: is disjoint DropBlock, which the theory analyses, a fair stand-in for the original with overlapping blocks?

Networks from the same starts on the same order of data, with either at the same mean drop rate: on the features of
the last hidden layer (one-dimensional blocks) and on convolutional feature maps (square ones).
"""

from collections.abc import Callable
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field, field_validator, model_validator

from repro.papers.structured_dropout.settings import DeepConfig
from repro.pipeline.claims import Claim
from repro.pipeline.settings import Count, Probability, Section
from repro.pipeline.store import Record

SCHEMES = {"none": "no dropout", "disjoint": "disjoint", "original": "original (overlapping)"}
PLACES = {"features": "last hidden layer", "maps": "convolutional maps"}


class Options(Section):
    """`places`: where is dropped; `dropout` in the configuration is that of the features, alone.

    `map_block_size`, `map_retain`: the side of the squares and θ on maps.
    `map_stages`: after which stages maps are dropped, counted from the end; Ghiasi et al. (2018) take the last two.
    Masks on maps are drawn for each sample and each channel, as torchvision does; torchvision divides by the
    fraction kept in the batch, the disjoint ones by θ.
    """

    places: Annotated[tuple[Literal["features", "maps"], ...], Field(strict=False)] = ("features", "maps")
    map_block_size: Count = 3
    map_retain: Probability = 0.8
    map_stages: Annotated[tuple[Annotated[int, Field(ge=-4, le=-1)], ...], Field(strict=False)] = (-2, -1)
    monte_carlo_masks: Count = 4096

    @field_validator("map_block_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd: the original, torchvision's, takes no even sizes")
        return value


class Config(DeepConfig):
    options: Options

    @model_validator(mode="after")
    def _dropblock_alone(self) -> "Config":
        self.dropout.only(self.name, lambda noise: noise.scheme == "dropblock")
        return self

    @property
    def cells(self) -> int:
        features = 2 * len([*self.dropout.points()]) if "features" in self.options.places else 0
        return len(self.seed) * (1 + features + (2 if "maps" in self.options.places else 0))


def differences(curves: pd.DataFrame, column: str) -> pd.DataFrame:
    """disjoint − original of `column` at the same place, block size, θ, seed and epoch: `difference`."""
    keys = ["place", "block_size", "retain", "seed", "step"]
    pair = curves[curves.scheme != "none"].pivot_table(index=keys, columns="scheme", values=column)
    pair = pair.reindex(columns=["disjoint", "original"])  # all of one may have diverged
    return (pair.disjoint - pair.original).rename("difference").reset_index()


# ---------------------------------------------------------------------- claims

ACCURACY_MARGIN = 0.01
"""Differences in test accuracy below one percentage point would change nobody's choice of scheme."""

LOSS_MARGIN = {"features": 0.2, "maps": 0.3}
"""Of what dropout itself changes: below it, which of the two one takes matters little next to whether one drops.

On maps the original drops the middle more often than the edges (3×3 blocks at θ = 0.8: 36 % of the time in the middle
of a 7×7 map, 5 % in its corners), which no disjoint form does, so more is allowed there.
"""


def _difference(place: str, column: str, *, of_effect: bool = False) -> Callable[[Record], pd.Series]:
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
