"""What both experiments claim: differences between arms on the same seeds, in errors of the test set."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from math import nan

import numpy as np
import pandas as pd

from repro.papers.structured_output.settings import BASELINES, PRETRAINED
from repro.pipeline.claims import Claim, NotMeasured
from repro.pipeline.store import Record

Arm = tuple[str, bool]
"""Its name, and whether it also learns from what is known alone."""

SOURCE = "Belharbi et al. (2018), section 4"
MARGIN = 0.01
"""Of the plain network's error: what counts as no worse."""
SIGN = "the confidence interval of the mean over seeds must lie on one side of 0"
ALIKE = "1 % of the plain network's error, set beforehand; the interval of the mean over seeds must lie below it"


def _numbers(record: Record) -> list[int]:
    """Of pairs: the fewest, the one at which arms are compared, the most."""
    numbers = sorted(set(record.cells.pairs))
    there = int(record.arrays["instances"][0])
    return [numbers[0], max((n for n in numbers if n < there), default=numbers[-1]), numbers[-1]]


FEW, COMPARED, MOST = range(3)


def values(record: Record, arm: Arm, pairs: int, column: str = "error") -> "pd.Series[float]":
    """`column` by seed; an arm that has nothing known alone at this size is the one without it."""
    cells = record.cells[record.cells.pairs == pairs]
    mine = cells[cells.arm == arm[0]]
    mine = mine[mine.extra == (arm[1] and bool(mine.extra.any()))]
    if mine.empty:
        raise NotMeasured(f"not trained: {arm[0]} on {pairs} pairs")
    return mine.set_index("seed")[column].where(~mine.set_index("seed").diverged.astype(bool), nan)


def gain(record: Record, worse: Arm, better: Arm, at: int, column: str = "error") -> "pd.Series[float]":
    """The part of the plain network's error (or other column) by which `better` is below `worse`."""
    pairs = _numbers(record)[at]
    difference = values(record, worse, pairs, column) - values(record, better, pairs, column)
    return difference / values(record, ("plain", False), pairs, column)


def _alone(record: Record, worse: Arm, better: Arm) -> "pd.Series[float]":
    cells = record.cells
    if not cells[cells.pairs == _numbers(record)[FEW]].extra.any():
        raise NotMeasured("all instances are pairs: nothing is known alone")
    return gain(record, worse, better, FEW)


def _shrinks(record: Record) -> "pd.Series[float]":
    few, _, most = _numbers(record)
    if few == most:
        raise NotMeasured("one number of pairs alone")
    arms = ("plain", False), ("out", False)
    return gain(record, *arms, FEW) - gain(record, *arms, MOST)


def _above_mean(record: Record) -> "pd.Series[float]":
    gains = [values(record, ("mean", False), n) - values(record, ("plain", False), n)
             for n in sorted(set(record.cells.pairs))]  # fmt: skip
    return pd.concat(gains, axis=1).min(axis=1, skipna=False)


def _linear(record: Record) -> "pd.Series[float]":
    pairs = _numbers(record)[COMPARED]
    lines = [values(record, (name, False), pairs) for name in BASELINES[1:]]
    best = pd.concat(lines, axis=1).min(axis=1)
    return (best - values(record, ("in+out", True), pairs)) / values(record, ("plain", False), pairs)


def _sooner(record: Record) -> "pd.Series[float]":
    """Steps of +in+out to the plain network's least validation error, of those that it took; one check more than all
    where it is not reached."""
    pairs = _numbers(record)[COMPARED]
    curves = record.table("curves")
    curves = curves[curves.pairs == pairs]
    mine = curves[curves.arm == "in+out"]
    mine = mine[mine.extra == mine.extra.any()]
    beyond = curves.step.max() + np.diff(np.unique(curves.step)).min(initial=curves.step.max())
    found = {}
    for seed, rows in curves[curves.arm == "plain"].groupby("seed"):
        best = rows.loc[rows.validation.idxmin()]
        reached = mine[(mine.seed == seed) & (mine.validation <= best.validation)].step
        found[seed] = reached.min() / best.step if len(reached) else beyond / best.step
    return pd.Series(found)


def _identical(arm: str) -> Callable[[Record], "pd.Series[float]"]:
    def measure(record: Record) -> "pd.Series[float]":
        return values(record, (arm, True), _numbers(record)[FEW], "from_plain")

    return measure


def _schedules(record: Record) -> "pd.Series[float]":
    """The largest distance of a recorded weight of +in+out from the corners of its schedule joined by lines."""
    training = record.config["training"]
    if any(training[name]["shape"] != "linear" for name in ("inputs", "outputs")):
        raise NotMeasured("a schedule that is not linear")
    curves = record.table("curves")
    curves = curves[curves.arm == "in+out"]
    steps = curves.groupby("pairs").step.transform("max")
    worst = pd.Series(0.0, index=curves.index)
    for column, name in (("lambda_in", "inputs"), ("lambda_out", "outputs")):
        part = training[name]
        corners = [0.0, part["begin"], part["end"], max(1.0, part["end"])]
        line = np.interp((curves.step - 1) / steps, corners, part["weight"] * np.array([1.0, 1.0, 0.0, 0.0]))
        worst = np.maximum(worst, (curves[column] - line).abs())
    return worst.groupby(curves.seed).max()


def _less(
    id: str, statement: str, quantity: str, measure: Callable[[Record], "pd.Series[float]"], **more: str
) -> Claim:
    return Claim(
        id=id, statement=statement, source=more.pop("source", SOURCE), quantity=quantity, low=0.0, rule="interval",
        because=SIGN, measure=measure, scales=("cpu", "gpu"), figure=more.pop("figure", "pairs"),
    )  # fmt: skip


def _no_worse(id: str, statement: str, quantity: str, measure: Callable[[Record], "pd.Series[float]"]) -> Claim:
    return Claim(
        id=id, statement=statement, source=SOURCE, quantity=quantity, high=MARGIN, ideal=0.0, rule="interval",
        because=ALIKE, measure=measure, scales=("cpu", "gpu"), figure="pairs",
    )  # fmt: skip


def _does_not(id: str, statement: str, quantity: str, without: Arm, control: Arm) -> Claim:
    return Claim(
        id=id, statement=statement, source="ours", quantity=f"{quantity}, fewest pairs, {PART}", high=MARGIN / 2,
        ideal=0.0, rule="interval", because="half a percent, set beforehand; the interval of the mean over seeds must "
        "lie below it", measure=lambda record: _alone(record, without, control), scales=("cpu", "gpu"),
        bears=lambda config: bool(config["options"]["controls"]), figure="pairs",
    )  # fmt: skip


def _nothing(id: str, statement: str, arm: str) -> Claim:
    return Claim(
        id=id, statement=statement, source="ours; both costs reach the outputs through shared layers alone",
        quantity="largest difference of a prediction from the plain network's, over the test set",
        low=0.0, high=0.0, because="the same operations on the same random numbers", measure=_identical(arm),
        bears=lambda config: bool(config["options"]["controls"]), figure="pairs",
    )  # fmt: skip


PART = "of the plain network's error"
BOTH: Arm = ("in+out", True)
OUT: Arm = ("out", True)
IN: Arm = ("in", True)
PLAIN: Arm = ("plain", False)

ALL = (
    _less("out_below_plain", "Learning the outputs' structure lowers the error.",
          f"gain of +out over plain, {PART}", lambda record: gain(record, PLAIN, OUT, COMPARED)),
    _no_worse("both_no_worse_than_out", "Both auto-encoders are as good as that of the outputs alone, or better.",
              f"error of +in+out less that of +out, {PART}", lambda record: -gain(record, OUT, BOTH, COMPARED)),
    _less("out_below_in", "The outputs' auto-encoder helps more than the inputs'.",
          f"error of +in less that of +out, {PART}", lambda record: gain(record, IN, OUT, COMPARED)),
    _no_worse("in_no_worse_than_plain", "The inputs' auto-encoder does not harm.",
              f"error of +in less that of plain, {PART}", lambda record: -gain(record, PLAIN, IN, COMPARED)),
    _less("plain_below_mean", "The plain network is better than the mean output, at every number of pairs.",
          "error of the mean output less that of plain, the least", _above_mean),
    _less("gain_shrinks", "What the outputs' auto-encoder gains becomes less as pairs become more.",
          "gain of +out on the fewest pairs less that on the most, each a part of the plain network's error", _shrinks),
    _less("outputs_alone_help", "Outputs whose inputs are not known lower the error.",
          f"gain of +out by outputs alone, fewest pairs, {PART}", lambda r: _alone(r, ("out", False), OUT)),
    _does_not("shuffled_outputs_do_not", "Outputs without their structure do not: the control.",
              "gain of +out by shuffled outputs", ("out", False), ("shuffled", True)),
    _less("inputs_alone_help", "Inputs whose outputs are not known lower the error of +in.",
          f"gain of +in by inputs alone, fewest pairs, {PART}", lambda r: _alone(r, ("in", False), IN)),
    _does_not("noise_inputs_do_not", "Pictures of noise in their place do not: the control.",
              "gain of +in by pictures of noise", ("in", False), ("noise", True)),
    _nothing("untied_is_plain", "Through layers of its own the outputs' auto-encoder does nothing.", "untied"),
    _nothing("zero_is_plain", "With both weights 0 the network is the plain one.", "zero"),
    Claim(
        id="schedules", statement="Importance weights follow their schedules.",
        source="Belharbi et al. (2018), section 3; the authors' code",
        quantity="largest distance of a recorded weight from its schedule", high=1e-6,
        because="rounding of float32", measure=_schedules, figure="training",
    ),
    Claim(
        id="trains_faster", statement="With both auto-encoders training is faster.", source=SOURCE,
        quantity="steps of +in+out to the plain network's least validation error, of those that plain took", high=1.0,
        ideal=0.5, rule="interval", because="the confidence interval of the mean must lie below 1",
        measure=_sooner, scales=("cpu", "gpu"), figure="training",
    ),
    _less("nearer_to_true_shapes", "Predictions lie nearer the subspace of true outputs.",
          "distance of plain predictions from the components that hold 95 % of the outputs' variance, less that of "
          "+in+out, of the former", lambda record: gain(record, PLAIN, BOTH, COMPARED, "subspace"), source="ours"),
    _less("below_linear", "The network is better than ridge regression, with or without components of the outputs.",
          f"error of the better one less that of +in+out, {PART}", _linear, source="ours"),
    _no_worse("no_worse_than_pretraining", "Learning all together is as good as pre-training (IODA), or better.",
              f"error of +in+out less that of the pre-trained network, {PART}",
              lambda record: -gain(record, (PRETRAINED, True), BOTH, COMPARED)),
)  # fmt: skip


def stated(experiment: str, fails: Mapping[str, str], only: Collection[str] = ()) -> tuple[Claim, ...]:
    """The claims of an experiment, all or `only` some; `fails`: of those known to fail, why."""
    return tuple(
        replace(claim, caveat=fails[claim.id], departs=(experiment,)) if claim.id in fails else claim
        for claim in ALL
        if not only or claim.id in only
    )
