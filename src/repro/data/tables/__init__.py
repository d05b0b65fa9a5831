"""Small tables of numbers with one target: those that installed packages carry, or a CSV file."""

from typing import Literal

from repro.pipeline.settings import Data, OneOrMany, Probability


class Settings(Data):
    """`table`: `autompg`, `boston` (mlxtend), `diabetes` (scikit-learn), or the path of a CSV file without a header,
    the target in its last column. `held_out`: the part of the rows to test on."""

    kind: Literal["tables"]
    table: OneOrMany[str]
    held_out: Probability
