"""What any paper's experiments say of a Monte-Carlo mean beside the expectation that theory gives."""

from math import inf

import pandas as pd

from repro.pipeline.claims import Claim
from repro.pipeline.store import Record

# A Monte-Carlo mean this many standard errors from its expectation is measured a second time.
SUSPICIOUS = 3.0


def agreement(curves: pd.DataFrame) -> dict[str, float]:
    """How far the stochastic objective lies from the deterministic one, over all logged steps and cells where they
    are finite."""
    curves = curves[(curves.monte_carlo - curves.deterministic).abs() < inf]
    distance = (curves.monte_carlo - curves.deterministic).abs()
    standard = distance / curves.standard_error
    return {
        "comparisons": float(len(curves)),
        "largest distance in standard errors": float(standard.max()),
        "mean squared distance in standard errors": float((standard**2).mean()),
        "largest relative standard error": float((curves.standard_error / curves.deterministic).max()),
        "measured twice": float(curves.remeasured.sum()),
    }


def stochastic_claim(id: str, statement: str, source: str, *, resolution: float = 0.01, what: str = "iterate") -> Claim:
    """The claim that the stochastic objective's expectation is the deterministic one.

    A comparison whose standard error exceeds the fraction `resolution` of the objective could not tell a wrong formula
    from a right one, and counts as failed.
    """

    def measure(record: Record) -> pd.Series:
        rows = record.table("curves").dropna(subset="monte_carlo") if "monte_carlo" in record.curves else None
        if rows is None or rows.empty:
            return pd.Series(dtype=float)
        distance = (rows.monte_carlo - rows.deterministic).abs() / rows.standard_error
        blunt = rows.standard_error > resolution * rows.deterministic
        return rows.assign(distance=distance.where(~blunt, inf)).groupby("seed").distance.max()

    return Claim(
        id=id,
        statement=statement,
        source=source,
        quantity=f"largest distance of a Monte-Carlo mean from the deterministic objective of the same {what}, in "
        "standard errors",
        high=SUSPICIOUS,
        because=f"sampling error alone; a standard error above {100 * resolution:g} % of the objective counts as "
        "failed, and a value beyond 3 is measured once more with four times the masks",
        measure=measure,
        figure="objective",
    )
