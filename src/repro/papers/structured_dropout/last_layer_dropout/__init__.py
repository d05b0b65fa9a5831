"""E6: is dropout of the last hidden layer of a deep network the regulariser that the linear theory predicts?

E‖Y − (1/θ)U diag(z) g(X)‖² = ‖Y − U g(X)‖² + (1−θ)/θ Σ_i ‖U_i g_i(X)‖², on the features of every epoch; and, where the
features are rich enough, predictions with the singular values of the closed form for Y.
"""

from typing import Annotated

import pandas as pd
from pydantic import model_validator

from repro.papers.structured_dropout.last_layer_dropout.claims import CLAIMS as CLAIMS
from repro.papers.structured_dropout.settings import DeepConfig
from repro.pipeline.settings import Count, OneOrMany, Section, within

TITLES = {
    "none": "no dropout",
    "bernoulli": "Dropout",
    "dropblock": "DropBlock",
    "overlapping_dropblock": "overlapping DropBlock",
    "gaussian": "Gaussian noise",
}


class Options(Section):
    """`without`: train without dropout too. `monte_carlo_masks`: masks that a measurement averages over.
    `measurements`: of each network along training; null: one after every epoch. `lengths`: for which shares of
    training.epochs a network is trained, each from a start of its own: the price of a result in steps.
    """

    without: bool = True
    monte_carlo_masks: Count = 4096
    measurements: Count | None = None
    lengths: OneOrMany[Annotated[float, within("in (0, 1]", lambda value: 0 < value <= 1)]] = (1.0,)


class Config(DeepConfig):
    options: Options

    @model_validator(mode="after")
    def _on_hidden_units(self) -> "Config":
        self.dropout.only(self.name, lambda noise: noise.target == "hidden")
        return self

    @property
    def drawn(self) -> tuple[int, int]:
        noises, rates = super().drawn
        return noises, rates * (noises if len(self.options.lengths) > 1 else 1)

    @property
    def cells(self) -> int:
        return len(self.seed) * (len([*self.dropout.points()]) * len(self.options.lengths) + self.options.without)


def series(cells: pd.DataFrame) -> dict[tuple[str, int], str]:
    """(scheme, block size) of the cells with dropout, and what they are called: by r alone if that tells them apart."""
    found = cells[cells.scheme != "none"].groupby(["scheme", "block_size"]).groups
    alike = {scheme for scheme, _ in found} <= {"bernoulli", "dropblock"} and len({r for _, r in found}) == len(found)
    return {(scheme, size): f"$r = {size}$" if alike else title_of(scheme, size) for scheme, size in found}


def title_of(scheme: str, size: int) -> str:
    if scheme == "dropblock" and size == 1:
        scheme = "bernoulli"  # the same thing
    return TITLES.get(scheme, scheme) + (f", $r = {size}$" if size > 1 or "dropblock" in scheme else "")


CAPTIONS = {
    "objective": "Along training, the loss under dropout (markers, Monte Carlo) lies on the deterministic objective "
    "(lines) of the same features; dotted, the closed-form minimum.",
    "spectra": "Singular values of the final predictions (markers) on those of the closed form (lines). Classes of "
    "unequal size collapse one after another.",
    "rivals": "How far each network is from its own norm's closed form (black bars) and from what other theories say "
    "(markers; hollow: the right norm with a wrong weight). Beyond the dotted line it is asked to be twice as far.",
    "price": "The distance from the closed form against the epochs of training; every point is a network of its own.",
    "assumptions": "Above, how far the features are from attaining the penalty's lower bound; below, how unequal the "
    "blocks are. Both are zero where the theory's assumptions hold exactly.",
}
"""What to look for in each figure."""
