"""E7: is disjoint DropBlock, which the theory analyses, a fair stand-in for the original with overlapping blocks?

Networks from the same starts on the same order of data, with either at the same mean drop rate: on the features of
the last hidden layer (one-dimensional blocks) and on convolutional feature maps (square ones). Each seed holds other
images out, where the source has no test set of its own.
"""

from typing import Annotated, Literal

import pandas as pd
from pydantic import Field, field_validator, model_validator

from repro.papers.structured_dropout.settings import DeepConfig
from repro.pipeline.claims import Claim, NotMeasured
from repro.pipeline.settings import Count, OneOrMany, Probability, Section
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
    map_stages: OneOrMany[Annotated[int, Field(ge=-4, le=-1)]] = (-2, -1)
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
    def drawn(self) -> tuple[int, int]:
        return len([*self.dropout.points()]) + 1, 3

    @property
    def cells(self) -> int:
        features = 2 * len([*self.dropout.points()]) if "features" in self.options.places else 0
        return len(self.seed) * (1 + features + (2 if "maps" in self.options.places else 0))


MEASURES = {"test_error": "squared error on held-out images", "train_loss": "training loss under the masks"}
"""What the two schemes are compared by."""

MARGIN = 0.25
"""Of what dropping at all changes: at a half the stand-in would be as near to no dropout as to the original."""


def of_effect(cells: pd.DataFrame, place: str, column: str) -> pd.DataFrame:
    """Of each seed, the mean of `column` over block sizes and θ: `difference`, disjoint − original; `effect`,
    original − none; `fraction`, the first over the second. NaN where a network diverged."""
    mine = cells[cells.place.isin(["none", place])].groupby(["seed", "scheme"])[column]
    found = mine.agg(lambda values: values.mean(skipna=False)).unstack().reindex(columns=[*SCHEMES])
    found = found.assign(difference=found.disjoint - found.original, effect=found.original - found.none)
    return found.assign(fraction=found.difference / found.effect)


# ---------------------------------------------------------------------- claims


def _pairs(record: Record, place: str, column: str) -> pd.DataFrame:
    if place not in set(record.cells.place):
        raise NotMeasured(f"nothing was dropped: {PLACES[place]}")
    if column == "test_error" and record.config["training"]["loss"] != "squared_error":
        raise NotMeasured(f"training.loss={record.config['training']['loss']}: squared error is not what is learned")
    return of_effect(record.cells, place, column)


def _equivalence(place: str, column: str) -> tuple[Claim, Claim]:
    """That the two schemes are equal, and that the test of it could tell no dropout from the original."""
    verb = "generalises" if column == "test_error" else "trains"

    def difference(record: Record) -> pd.Series:
        return _pairs(record, place, column).fraction

    def effect(record: Record) -> pd.Series:
        found = _pairs(record, place, column).effect
        return found / found.mean(skipna=False)

    equal = Claim(
        id=f"equal_{column}_{place}",
        statement=f"Disjoint DropBlock ({PLACES[place]}) {verb} as the original with overlapping blocks does.",
        source="E7; the approximation that the analysis rests on",
        quantity=f"{MEASURES[column]}, (disjoint − original) / (original − none) at the same mean drop rate, mean over "
        "seeds, each with a held-out set of its own",
        low=-MARGIN,
        high=MARGIN,
        because="an equivalence test in units of what dropping at all changes in the same record: no dropout stands at "
        "−1. At ±1/2 the stand-in would be as near to that as to the original; the whole confidence interval must lie "
        "within half of it",
        measure=difference,
        rule="interval",
        scales=("cpu", "gpu"),
        figure="margins",
        caveat=CAVEATS[place],
        departs=("dropblock_approximation",) if place == "maps" else (),
    )
    power = Claim(
        id=f"effect_{column}_{place}",
        statement=f"By {MEASURES[column]} no dropout is told from the original ({PLACES[place]}): the control.",
        source="ours; what makes an equivalence worth stating",
        quantity=f"{MEASURES[column]}, (original − none) / its mean over seeds, mean over seeds",
        low=MARGIN,
        ideal=1.0,
        because="the margin of the equivalence: were the effect itself not known to exceed it, the networks without "
        "dropout would pass for equivalent as well",
        measure=effect,
        rule="interval",
        scales=("cpu", "gpu"),
        figure="margins",
    )
    return equal, power


CAVEATS = {
    "features": "With few seeds the interval of the mean is nearly as wide as the margin.",
    "maps": "The original's squares lie anywhere but over the edge, so it drops the middle of a map more often than "
    "its edges (3×3 at θ = 0.8: 36 % of the time in the middle of a 7×7 map, 5 % in its corners), which no disjoint "
    "form does. Digits are in the middle: at the same mean rate the original is the stronger noise.",
}

CLAIMS = tuple(claim for place in PLACES for column in MEASURES for claim in _equivalence(place, column))

CAPTIONS = {
    "margins": "disjoint − original in units of what dropping at all changes, original − none: light, a marker a seed; "
    "dark, their mean. Grey: the margin of ±1/4 within which they count as equal; no dropout stands at −1 (dotted).",
    "training": "Training loss under the masks, disjoint and original blocks at the same mean drop rate, mean ± one "
    "standard deviation over seeds.",
    "test": "Squared error on held-out images, of ‖Y‖²: on top of each other if disjoint blocks are a fair stand-in.",
    "accuracy": "Test error of the same networks: about a point between dropout and none, too little for a claim.",
}
"""What to look for in each figure."""
