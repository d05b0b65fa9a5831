"""What does noise of a rotated covariance do, exactly?

z = 1 + U diag(√α) ε, or z = Uξ with ξ ~ N(1, diag α): E‖Y − A diag(z) B X‖² = ‖Y − A diag(m) B X‖² + ⟨C, G⟩ with
G = (AᵀA)∘(BXXᵀBᵀ), on random networks. The divergences of W = diag(z)Θ against their matrices; where Variational
Dropout's prior and posterior go wrong; which rotation is best, and when none is; the second order of a loss that is not
quadratic.
"""

import numpy as np
import pandas as pd
from pydantic import model_validator

from repro.papers.expectation import slope_claim, stochastic_claim
from repro.papers.variational_structured_dropout.settings import NoiseConfig, Reflections
from repro.pipeline.claims import Claim
from repro.pipeline.settings import Count, OneOrMany, Section
from repro.pipeline.store import Record


class Options(Section):
    """`columns`: Q of the posterior's weights; `rotations`: random ones that the best is tried against."""

    reflections: OneOrMany[Reflections]
    monte_carlo_masks: Count
    columns: Count
    rotations: Count


class Config(NoiseConfig):
    options: Options

    @model_validator(mode="after")
    def _reflections_fit(self) -> "Config":
        if (most := max(self.options.reflections)) > self.model.width:
            raise ValueError(f"options.reflections={most}: must be at most model.width={self.model.width}")
        return self

    @property
    def networks(self) -> int:
        return 2 * len(self.seed) * len(self.options.reflections) * len(self.dropout.rates())

    def ignored(self) -> dict[str, str]:
        both = {"dropout.noise_mean": "both are tried", "dropout.reflections": "options.reflections are tried"}
        return super().ignored() | both | {"dropout.rotation_seed": "each seed has rotations of its own"}


def _worst(column: str, record: Record) -> "pd.Series[float]":
    return record.cells.groupby("seed")[column].max()


def _by_seed(name: str, record: Record) -> "pd.Series[float]":
    return pd.Series(record.arrays[name], index=record.config["seed"])


def _slope(record: Record, x: str, y: str, log: bool = False) -> "pd.Series[float]":
    """Of the last two points of each seed's line."""
    values = np.log(np.abs(record.arrays[y])) if log else record.arrays[y]
    at = np.log(record.arrays[x])
    return pd.Series((values[:, -1] - values[:, -2]) / (at[-1] - at[-2]), index=record.config["seed"])


SOURCE = "derived"
ROUNDING = "rounding alone, in float64"
ADDED = "K(Q − 1) dimensions have no variance of their own"

CLAIMS = (
    stochastic_claim(
        "structured_objective",
        "Structured noise has a deterministic objective: the data fit at the mean plus ⟨C, G⟩.",
        f"{SOURCE}; `noise_gram`",
        what="network",
    ),
    slope_claim("the penalty ⟨C, G⟩ of structured noise", f"{SOURCE}; `noise_gram`", figure="objective"),
    Claim(
        id="divergences",
        statement="The three divergences are those of the posteriors' matrices.",
        source=f"{SOURCE}; `kl_normal`, `kl_empirical_bayes`, `kl_hierarchical`",
        quantity="largest relative distance from the KL of the Gaussians written out",
        high=1e-9,
        because=ROUNDING,
        measure=lambda record: _worst("divergence_distance", record),
    ),
    Claim(
        id="divergence_sampled",
        statement="The divergence to the fixed prior is the mean of log q − log p.",
        source=f"{SOURCE}; `kl_normal`",
        quantity="largest distance in standard errors",
        high=3.0,
        because="sampling error alone; a value beyond 3 is measured once more with four times the samples",
        measure=lambda record: _worst("divergence_errors", record),
    ),
    Claim(
        id="total_correlation",
        statement="The empirical-Bayes divergence is what each rate costs plus the total correlation of the noise.",
        source=f"{SOURCE}; `total_correlation`",
        quantity="largest relative distance of the two sides",
        high=1e-9,
        because=ROUNDING,
        measure=lambda record: _worst("correlation_distance", record),
    ),
    Claim(
        id="improper_prior",
        statement="Under Variational Dropout's prior 1/|w| the posterior's mass near 0 grows without end.",
        source=f"{SOURCE}; `pathologies.py`",
        quantity="growth of the mass beyond ε per log(1/ε), over twice the likelihood at 0",
        low=0.99,
        high=1.01,
        because="the integral is numerical, and its slope is taken at ε near 1e-6",
        measure=lambda record: -_slope(record, "epsilon", "mass_log_uniform") / (2 * record.arrays["likelihood_at_0"]),
        figure="pathologies",
    ),
    Claim(
        id="proper_prior",
        statement="Under a normal prior it does not.",
        source=f"{SOURCE}; `pathologies.py`",
        quantity="the same growth",
        low=-0.01,
        high=0.01,
        because="as above",
        measure=lambda record: -_slope(record, "epsilon", "mass_normal") / (2 * record.arrays["likelihood_at_0"]),
        figure="pathologies",
    ),
    Claim(
        id="singular_posterior",
        statement="Noise that all columns share leaves a singular posterior, infinitely far from every prior of full "
        "rank.",
        source=f"{SOURCE}; `pathologies.py`",
        quantity="growth of the KL per log(1/ε) with ε² added to all variances, over K(Q − 1)",
        low=0.99,
        high=1.01,
        because=ADDED,
        measure=lambda record: -_slope(record, "epsilon", "kl_shared") / record.arrays["missing_dimensions"],
        figure="pathologies",
    ),
    Claim(
        id="regular_posterior",
        statement="Independent columns, or a variance for each weight, cure that.",
        source=f"{SOURCE}; `pathologies.py`",
        quantity="the larger growth of the two",
        low=-0.01,
        high=0.01,
        because="their variances are far above ε²",
        measure=lambda record: (
            pd.concat([_slope(record, "epsilon", f"kl_{name}") for name in ("independent", "hierarchical")], axis=1)
            .abs()
            .max(axis=1)
            / record.arrays["missing_dimensions"]
        ),
        figure="pathologies",
    ),
    Claim(
        id="best_rotation",
        statement="No rotation costs less than the largest rates on the smallest eigenvalues of G.",
        source=f"{SOURCE}; `best_rotation`",
        quantity="least ⟨C, G⟩ of random rotations and of descent over rotations, over Σ α↓ λ↑",
        low=1 - 1e-9,
        high=1.01,
        ideal=1.0,
        because="below: rounding; above: descent ends near the minimum, random rotations do not",
        measure=lambda record: record.cells.groupby("seed").rotation_searched.min(),
        figure="rotation",
    ),
    Claim(
        id="null_case",
        statement="With all rates equal the rotation changes nothing.",
        source=f"{SOURCE}; `best_rotation`",
        quantity="largest relative change of ⟨C, G⟩ over random rotations",
        high=1e-9,
        because=f"{ROUNDING}; with rates unequal by 10 it changes by tens of per cent",
        measure=lambda record: _worst("equal_rates_spread", record),
    ),
    Claim(
        id="equal_units",
        statement="Where every unit contributes equally the best rotation saves all but the smallest rate.",
        source=f"{SOURCE}; `best_rotation`",
        quantity="least ⟨C, G⟩ over that of U = I, over α_min / ᾱ",
        low=1 - 1e-9,
        high=1 + 1e-9,
        because=ROUNDING,
        measure=lambda record: record.cells.groupby("seed").equal_units_ratio.agg(lambda r: r[(r - 1).abs().idxmax()]),
    ),
    Claim(
        id="second_order",
        statement="A loss that is not quadratic has ½ tr(C JᵀHJ) + ½⟨C, Σ ∂ℓ ∇²f⟩ as its first order in C.",
        source=f"{SOURCE}; `expansion.py`",
        quantity="order in the noise's variance of what is left over",
        low=1.9,
        high=2.3,
        because="the next term is of order 2; without the curvature of the network what is left is of order 1",
        measure=lambda record: _slope(record, "scale", "expansion_error", log=True),
        figure="expansion",
    ),
    Claim(
        id="sigmoid_fit",
        statement="The usual sigmoid fit of Variational Dropout's divergence is within 0.007 of the exact one, up to a "
        "constant, which is free under an improper prior.",
        source=f"{SOURCE}; Molchanov et al. 2017",
        quantity="half the range of its distance from 2∫Dawson, nats, over rates from 1e-4 to 1e4",
        high=0.007,
        because="what is said of it",
        measure=lambda record: pd.Series([float(np.ptp(record.arrays["fit"] - record.arrays["exact"])) / 2]),
        figure="pathologies",
    ),
)

CAPTIONS = {
    "objective": "What the noise adds to the loss by Monte Carlo, over ⟨C, G⟩: 1, with error bars of one standard "
    "error. Grey: over what the same rates would add without the rotation.",
    "pathologies": "The mass near 0 of a posterior under the improper prior grows with log(1/ε), under a normal one "
    "not. The KL of a posterior whose columns share their noise grows likewise as what is added to its variances "
    "vanishes; with independent columns, or a variance for each weight, it does not. Right: Variational Dropout's "
    "divergence and its usual fit.",
    "rotation": "⟨C, G⟩ of random rotations over the least one: none below 1, which descent reaches.",
    "expansion": "What second-order theory leaves over, against the variance of the noise, exact by quadrature. Grey: "
    "without the network's own curvature.",
}
"""What to look for in each figure."""
