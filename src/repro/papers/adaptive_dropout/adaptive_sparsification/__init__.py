"""Do adaptive dropout and the penalty that it amounts to sparsify a network alike?

LeNet-300-100 on digits under the log-sum penalty: in the loss, as a Tikhonov term that follows the weights, as a
shrinkage after each step, by the η-trick, as real adaptive masks; and variational dropout in three forms. Test error of
the pruned network, and of the one that was trained, against the share of weights left; as controls pruning by magnitude
and at random, both fine-tuned.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import pandas as pd
from pydantic import model_validator

from repro.data.settings import ImageSettings
from repro.models.perceptron import Settings as Perceptron
from repro.papers.adaptive_dropout import settings
from repro.pipeline.claims import Claim, NotMeasured
from repro.pipeline.settings import Found, OneOrMany, Positive, Section
from repro.pipeline.store import Record
from repro.training.adaptive import Settings as Adaptive

Name = Literal[
    "plain", "log_sum", "ada_tikhonov", "ada_prox", "eta_trick", "dropout", "var_drop", "var_drop_lr", "var_drop_lr_ar"
]
TITLES = {
    "plain": "no penalty",
    "log_sum": "LogSum",
    "ada_tikhonov": "AdaTikhonov",
    "ada_prox": "AdaProx",
    "eta_trick": "η-trick",
    "dropout": "adaptive dropout",
    "var_drop": "VarDrop",
    "var_drop_lr": "VarDrop+LR",
    "var_drop_lr_ar": "VarDrop+LR+AR",
    "magnitude": "magnitude, fine-tuned",
    "random": "random, fine-tuned",
}
PRUNED = ("magnitude", "random")
"""The controls: pruned from the network without a penalty."""


class Options(Section):
    """`methods`: what is trained, each at training.weight and for every seed.

    `grid`: factors of the penalty at which the first seed of `grid_methods` is trained besides; 1 is trained anyway.
    `controls`: prunes the network without a penalty to LogSum's share of weights, by magnitude and at random.
    """

    methods: OneOrMany[Name]
    grid: OneOrMany[Positive]
    grid_methods: OneOrMany[Name]
    controls: bool

    @property
    def factors(self) -> tuple[float, ...]:
        return tuple(factor for factor in self.grid if factor != 1)


class Config(settings.Config):
    UNUSED: ClassVar[Mapping[str, str]] = {"dropout": settings.NO_NOISE}

    data: Found[ImageSettings]
    model: Found[Perceptron]
    training: Found[Adaptive]
    options: Options

    @model_validator(mode="after")
    def _controls_have_what_they_prune(self) -> "Config":
        if self.options.controls and (missing := {"plain", "log_sum"} - set(self.options.methods)):
            raise ValueError(f"options.controls=true: needs {min(missing)} among options.methods")
        return self

    def ignored(self) -> dict[str, str]:
        pixels = "images are taken as they are, as by the authors"
        own = {
            "data.targets": "what is minimised is the cross-entropy",
            "data.crop_padding": pixels,
            "data.flip": pixels,
        }
        return super().ignored() | own

    @property
    def networks(self) -> int:
        options = self.options
        main = len(options.methods) + 2 * options.controls
        return len(self.seed) * main + len(options.factors) * len(options.grid_methods)


# ---------------------------------------------------------------------- claims

Measure = Callable[[Record], pd.Series]
LOG_SUM = ("log_sum", "ada_tikhonov", "ada_prox")


def final(record: Record, column: str) -> pd.DataFrame:
    """`column` of the trained networks, a row a seed, a column a method."""
    cells = record.cells[record.cells.factor == 1]
    return cells.pivot(index="seed", columns="method", values=column)


def _need(table: pd.DataFrame, *methods: str) -> pd.DataFrame:
    if missing := set(methods) - set(table):
        raise NotMeasured(f"not trained: {', '.join(TITLES[name] for name in sorted(missing))}")
    return table


def _apart(column: str, one: str, other: str) -> Measure:
    """The mean over seeds of the difference of two methods."""

    def measure(record: Record) -> pd.Series:
        table = _need(final(record, column), one, other)
        return pd.Series([abs((table[one] - table[other]).mean(skipna=False))], index=record.config["seed"][:1])

    return measure


def _floor(record: Record) -> pd.Series:
    curves = record.table("curves")
    if "above_floor" not in curves:
        raise NotMeasured("not trained: η-trick")
    rows = curves[curves.method == "eta_trick"]
    return rows.groupby("seed").above_floor.agg(lambda values: values.min(skipna=False))


def _pruning(record: Record) -> pd.Series:
    change = (final(record, "pruned_error") - final(record, "error")).abs()
    return _need(change, *LOG_SUM)[[*LOG_SUM]].max(axis=1, skipna=False)


def _sparsest(record: Record) -> pd.Series:
    return _need(final(record, "left"), *LOG_SUM)[[*LOG_SUM]].max(axis=1, skipna=False)


def _random(record: Record) -> pd.Series:
    table = _need(final(record, "pruned_error"), "random", "log_sum")
    return table.random - table.log_sum


def _variational_error(record: Record) -> pd.Series:
    table = _need(final(record, "pruned_error"), "var_drop_lr_ar", "log_sum")
    return table.var_drop_lr_ar - table.log_sum


def _variational_share(record: Record) -> pd.Series:
    table = _need(final(record, "left"), "var_drop_lr_ar", "log_sum")
    return table.var_drop_lr_ar / table.log_sum


def _at_once(record: Record) -> pd.Series:
    curves = record.table("curves")
    first = curves[(curves.step == 1) & (curves.factor == 1)].pivot_table(index="seed", columns="method", values="left")
    first = _need(first, "var_drop_lr", "var_drop_lr_ar")
    return first.var_drop_lr_ar / first.var_drop_lr


def _dropout(record: Record) -> pd.Series:
    table = _need(final(record, "left"), "dropout", "log_sum")
    return table.dropout - table.log_sum


SOURCE = "LeJeune, Javadi, Baraniuk (2021), section 5, LeNet-300-100"
TRAINED = ("cpu", "gpu")

CLAIMS = (
    Claim(
        id="tikhonov_is_log_sum_error",
        statement="A Tikhonov term that follows the weights trains as the log-sum penalty does: test error.",
        source=SOURCE,
        quantity="distance of the mean test errors of the pruned networks, AdaTikhonov and LogSum",
        high=0.003,
        because="0.3 points, set beforehand; their gradients are the same where α ≥ 1e-3, one batch late",
        measure=_apart("pruned_error", "ada_tikhonov", "log_sum"),
        scales=TRAINED,
        figure="training",
    ),
    Claim(
        id="tikhonov_is_log_sum_share",
        statement="A Tikhonov term that follows the weights trains as the log-sum penalty does: weights left.",
        source=SOURCE,
        quantity="distance of the mean shares of weights left, AdaTikhonov and LogSum",
        high=0.01,
        because="set beforehand; without a penalty all are left",
        measure=_apart("left", "ada_tikhonov", "log_sum"),
        scales=TRAINED,
        figure="training",
    ),
    Claim(
        id="eta_trick_has_its_floor",
        statement="The η-trick's penalty never falls below what it is a bound of.",
        source="LeJeune, Javadi, Baraniuk (2021), η-trick; f is the conjugate of the log-sum penalty",
        quantity="least (λ/2) Σ [w²/η + f(η)] − λ d log ε after any epoch, of λ d log ε",
        low=0.0,
        ideal=0.01,
        because="f(η) ≥ 2 log ε; with a wrong f it falls without end",
        measure=_floor,
        figure="training",
    ),
    Claim(
        id="log_sum_sparsifies",
        statement="The three forms of the log-sum penalty leave few weights.",
        source=SOURCE,
        quantity="largest share of weights left",
        high=0.25,
        because="without a penalty it is 1; how few are left is a matter of how long is trained, 4 % after 100 epochs",
        measure=_sparsest,
        scales=TRAINED,
        figure="training",
    ),
    Claim(
        id="pruned_as_trained",
        statement="The sparsity that is reported is that of a network whose error is measured.",
        source="ours; the authors' notebooks report the error of the network that is not pruned",
        quantity="largest change of the test error when weights that count as zero are set to 0, the three forms of "
        "the log-sum penalty",
        high=0.003,
        because="such weights are below 3e-5; 3 of 1,000 images",
        measure=_pruning,
        scales=TRAINED,
        figure="tradeoff",
    ),
    Claim(
        id="random_masks_are_worse",
        statement="Which weights are left matters: a random choice of as many, fine-tuned, is worse: the control.",
        source="ours",
        quantity="test error of a random mask with LogSum's share of weights, less that of LogSum pruned",
        low=0.0,
        ideal=0.03,
        because="the sign, in every seed",
        measure=_random,
        scales=TRAINED,
        figure="tradeoff",
    ),
    Claim(
        id="variational_error",
        statement="Variational dropout is one of the family: similar error.",
        source=SOURCE,
        quantity="test error of the pruned networks, VarDrop+LR+AR less LogSum",
        low=-0.02,
        high=0.02,
        because="2 points; a share of weights twice as large changes LogSum's error by less than 1",
        measure=_variational_error,
        scales=TRAINED,
        figure="tradeoff",
    ),
    Claim(
        id="variational_share",
        statement="Variational dropout is one of the family: similar sparsity.",
        source=SOURCE,
        quantity="share of weights left, VarDrop+LR+AR over LogSum",
        low=0.5,
        high=2.0,
        because="a factor of 2, where without a penalty it is 10",
        measure=_variational_share,
        scales=TRAINED,
        figure="tradeoff",
    ),
    Claim(
        id="additive_at_once",
        statement="With an additive σ variational dropout is sparse at once, without it it stays dense at first.",
        source=f"{SOURCE}, figure along training",
        quantity="share of weights left after one epoch, VarDrop+LR+AR over VarDrop+LR",
        high=0.5,
        because="near 0.2 and 1 on one unseeded run of the authors'",
        measure=_at_once,
        scales=TRAINED,
        figure="training",
    ),
    Claim(
        id="masks_sparsify",
        statement="Real masks with the log-sum strategy leave as few weights as the penalty.",
        source="ours; the notebooks replace masks by their expectation",
        quantity="share of weights left, adaptive dropout less LogSum",
        high=0.1,
        because="a tenth of all weights",
        measure=_dropout,
        scales=TRAINED,
        figure="training",
        caveat="The duality is of a squared loss with inputs of norm 1. On a network masks cost ½ Σ (1−α)/α w² times "
        "the loss's own curvature in each weight, which cross-entropy loses where training images are fitted: "
        "a λ that is right for the Tikhonov term is far too weak for the masks, and at 300 times that λ "
        "a seventh of the weights is dropped for twice the error.",
        departs=("adaptive_sparsification",),
    ),
)

CAPTIONS = {
    "training": "Share of weights left, and test error of the pruned network, along training: mean ± one standard "
    "deviation over seeds. AdaTikhonov lies on LogSum.",
    "tradeoff": "Test error of the pruned network against the share of weights left (left), and against the error of "
    "the network as trained (right; on the diagonal pruning changes nothing): mean ± one standard deviation. "
    "Lines join factors of the penalty, one seed each. Black crosses: the network without a penalty, pruned.",
}
"""What to look for in each figure."""
