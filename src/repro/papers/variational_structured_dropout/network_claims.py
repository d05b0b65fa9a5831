"""Differences between two arms on the same seeds, as claims."""

from collections.abc import Callable

import pandas as pd

from repro.pipeline.claims import Claim, NotMeasured
from repro.pipeline.store import Record

SOURCE = "the orderings of the abstract"
BECAUSE = "the confidence interval of the mean difference over seeds must lie on one side of zero"


def difference(record: Record, column: str, minuend: str, subtrahend: str) -> "pd.Series[float]":
    """column(minuend) − column(subtrahend) by seed, the mean over tables or tasks. `VSD` is that with the most
    reflections whose rates and rotation are free."""
    cells = record.cells[record.cells.chosen & ~record.cells.diverged]
    cells = cells.assign(arm=cells.arm.where(~cells.arm.str.startswith("dropout "), "dropout"))  # the one chosen
    most = f"VSD {max(record.config['options']['reflections'])}"
    first, second = (
        cells[cells.arm == (most if name == "VSD" else name)].groupby(["seed", "problem"])[column].mean()
        for name in (minuend, subtrahend)
    )
    found = (first - second).dropna()
    if found.empty:
        raise NotMeasured(f"no pair of {minuend} and {subtrahend} that converged")
    return found.groupby("seed").mean()


def claim(
    id: str,
    statement: str,
    quantity: str,
    column: str,
    pair: tuple[str, str],
    *,
    figure: str = "",
    caveat: str = "",
    departs: tuple[str, ...] = (),
    measure: Callable[[Record], "pd.Series[float]"] | None = None,
) -> Claim:
    """That `pair[0]` has more of `column` than `pair[1]`, or at least as much."""
    return Claim(
        id=id,
        statement=statement,
        source=SOURCE,
        quantity=f"{quantity}: mean difference over seeds",
        low=0.0,
        rule="interval",
        because=BECAUSE,
        measure=measure or (lambda record: difference(record, column, *pair)),
        scales=("cpu", "gpu"),
        figure=figure,
        caveat=caveat,
        departs=departs,
    )


ELBO = claim(
    "elbo",
    "Rotations do not lower the ELBO that is reached: the family with them contains the one without.",
    "training ELBO of VSD less that of VD-EB, nats an example",
    "elbo",
    ("VSD", "VD-EB"),
    figure="elbo",
)
