"""E6: is dropout of the last hidden layer of a deep network the regulariser that the linear theory predicts?

E‖Y − (1/θ)U diag(z) g(X)‖² = ‖Y − U g(X)‖² + (1−θ)/θ Σ_i ‖U_i g_i(X)‖², on the features of every epoch; and, where the
features are rich enough, predictions with the singular values of the closed form for Y.
"""

import pandas as pd
from pydantic import model_validator

from repro.papers.structured_dropout.last_layer_dropout.claims import CLAIMS as CLAIMS
from repro.papers.structured_dropout.settings import DeepConfig
from repro.pipeline.settings import Count, Section

TITLES = {
    "none": "no dropout",
    "bernoulli": "Dropout",
    "dropblock": "DropBlock",
    "overlapping_dropblock": "overlapping DropBlock",
    "gaussian": "Gaussian noise",
}


class Options(Section):
    """`without`: train without dropout too. `monte_carlo_masks`: masks that a measurement averages over."""

    without: bool = True
    monte_carlo_masks: Count = 4096


class Config(DeepConfig):
    options: Options

    @model_validator(mode="after")
    def _on_hidden_units(self) -> "Config":
        self.dropout.only(self.name, lambda noise: noise.target == "hidden")
        return self

    @property
    def cells(self) -> int:
        return len(self.seed) * (len([*self.dropout.points()]) + self.options.without)


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
    "spectra": "Singular values of the final predictions (markers) and of the closed form (lines). On top of each "
    "other for moderate rates; where markers leave the lines, at the smallest θ, directions have not left "
    "the origin when training ends.",
    "shrinkage": "The sum of the singular values against p, closed form as lines: how much dropout shrinks what the "
    "network says.",
    "assumptions": "Above, how far the features are from attaining the penalty's lower bound; below, how unequal the "
    "blocks are. Both are zero where the theory's assumptions hold exactly.",
}
"""What to look for in each figure."""
