"""What any paper's experiments say of a Monte-Carlo mean beside the expectation that theory gives."""

from math import inf

import pandas as pd

from repro.pipeline.claims import Claim, NotMeasured
from repro.pipeline.store import Record

# A Monte-Carlo mean this many standard errors from its expectation is measured a second time.
SUSPICIOUS = 3.0

# The standard error of a pooled slope above which it could not tell apart what single points cannot.
SHARP = 0.002

SLOPE = ("pooled slope of the penalty", "standard error of the slope")


def pooled_slope(curves: pd.DataFrame) -> tuple[float, float]:
    """The slope of (Monte Carlo − `fit`) on the penalty (deterministic − `fit`) over all comparisons, each weighted by
    the penalty alone, and its standard error: 1 where the penalty is right.

    Weights from the sampling errors would be sharper, and wrong: a skewed loss has its mean high where its spread is.
    """
    curves = curves[(curves.monte_carlo - curves.deterministic).abs() < inf]
    penalty = curves.deterministic - curves.fit
    ratio, error = (curves.monte_carlo - curves.fit) / penalty, curves.standard_error / penalty
    return float(ratio.mean()), float((error**2).sum() ** 0.5 / len(curves))


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
        **(dict(zip(SLOPE, pooled_slope(curves), strict=True)) if "fit" in curves else {}),
    }


def stochastic_claim(
    id: str, statement: str, source: str, *, resolution: float = 0.01, what: str = "iterate", figure: str = "objective"
) -> Claim:
    """The claim that the stochastic objective's expectation is the deterministic one.

    A comparison whose standard error exceeds the fraction `resolution` of the objective could not tell a wrong formula
    from a right one, and counts as failed. Deep networks are given 2 %: before the penalty is whole their features
    are large, and single masks' losses vary by several times their mean.
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
        figure=figure,
    )


def _slope_distance(record: Record) -> pd.Series:
    rows = record.table("curves")
    if "fit" not in rows or not rows.monte_carlo.notna().any():
        raise NotMeasured("no Monte-Carlo mean beside the data fit")
    slope, error = pooled_slope(rows)
    return pd.Series([abs(slope - 1) / error if error <= SHARP else inf], index=record.config["seed"][:1])


def slope_claim(what: str, source: str, figure: str = "standard_errors") -> Claim:
    """The claim that the penalty is right as a whole: all comparisons of a record pooled into one slope."""
    return Claim(
        id="pooled_slope",
        statement=f"All comparisons pooled, {what} has the weight that theory gives it.",
        source=source,
        quantity="distance from 1 of the slope of (Monte Carlo − data fit) on the penalty, in its standard errors",
        high=SUSPICIOUS,
        because=f"sampling error alone, with a standard error of {SHARP:g} at most (a larger one counts as failed): a "
        "penalty too large or small by 1 % everywhere, which single points do not see, lies 5 standard errors off",
        measure=_slope_distance,
        figure=figure,
    )
