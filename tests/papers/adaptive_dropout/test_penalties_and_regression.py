"""The experiments on penalties and on regression at a size of seconds: their claims, and controls of each."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from repro.papers.adaptive_dropout import strategies
from repro.papers.adaptive_dropout.adaptive_penalties import run as penalties_run
from repro.papers.adaptive_dropout.adaptive_regression import run as regression_run
from repro.pipeline import plotting, settings
from repro.pipeline.execution.making import compute
from repro.pipeline.experiment import Experiment
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings.config import module_of
from repro.pipeline.store import Record, Run
from repro.pipeline.system.progress import Progress
from repro.theory.penalties import L1, MCP, LogSum
from repro.training.reweighting import masks, problem

SMALL = ["scale=cpu", "device=cpu", "threads=1", "tracking.mode=disabled"]
OVERRIDES = {
    "adaptive_penalties": ["seed=0", "options.points=60"],
    "adaptive_regression": [
        "seed=[0,1]",
        "data.samples=40",
        "data.features=60",
        "data.nonzeros=4",
        "options.strengths=[0.1,0.2,0.4]",
        "options.mask_strengths=[0.2]",
        "options.starts=1",
        "training.steps=2000",
    ],
}


def run(experiment, folder, *overrides):
    typed = [f"experiment={experiment}", *SMALL, *OVERRIDES[experiment], *overrides, f"results={folder}", "force=true"]
    config = settings.load(typed)
    return Run(config, "the command").write(compute(config, Progress("", quiet=True)), {})


def decisions(record):
    claims = Experiment(module_of(record.config["module"])).claims
    found = [verdicts.judge(claim, record, experiment=record.experiment, command="") for claim in claims]
    return {verdict.claim.id: verdict.decision for verdict in found if verdict is not None}


@pytest.fixture(scope="module", params=list(OVERRIDES))
def honest(request, tmp_path_factory):
    return run(request.param, tmp_path_factory.mktemp(request.param))


def test_claims_hold_on_an_honest_record(honest):
    found = decisions(honest)
    known = {"l1_recovers", "masks_find_l1s_support"}  # the penalty does not; SGD loses what is next to nothing
    assert len(found) >= 9
    assert {claim for claim, decision in found.items() if decision != "holds"} <= known, found


def test_figures_are_drawn_from_the_record(honest):
    with plotting.style():
        made = Experiment(module_of(honest.config["module"])).figures(Record(honest.path))
        figures = {name: make() for name, make in made.items()}
        for figure in figures.values():
            figure.draw_without_rendering()
    claims = Experiment(module_of(honest.config["module"])).claims
    assert {claim.figure for claim in claims} <= set(figures)
    assert all(axis.has_data() for figure in figures.values() for axis in figure.axes)


# ---------------------------------------------------------------------- wrong theories


def variance_without_division(patch):
    """1 − α for (1 − α)/α."""
    right = masks.draw

    def wrong(alpha, *given):
        return right(1 / (2 - alpha), *given)

    patch.setattr(masks, "draw", wrong)
    patch.setattr(penalties_run, "draw", wrong)


def bernoulli_alone_is_wrong(patch):
    right = masks.draw
    patch.setattr(
        penalties_run,
        "draw",
        lambda alpha, noise, *given: right(alpha if noise == "gaussian" else 0.95 * alpha, noise, *given),
    )


def one_percent_more(patch):
    right = penalties_run._compared

    def wrong(*given):
        rows = right(*given)
        return rows.assign(deterministic=rows.fit + 1.01 * (rows.deterministic - rows.fit))

    patch.setattr(penalties_run, "_compared", wrong)


def another_integral(power):
    def wrong(patch):
        right = penalties_run.effective_penalty
        patch.setattr(penalties_run, "effective_penalty", lambda *given: right(*given) ** power)

    wrong.__name__ = f"integral_to_the_{power:g}"
    return wrong


def another_conjugate(patch):
    right = LogSum._dual
    patch.setattr(LogSum, "_dual", lambda self, eta: right(self, eta) * 1.001)


def other_curves(patch):
    right = penalties_run.of_figure

    def wrong():
        return right() | {"LogSum": (1.0, LogSum(0.1)), "MCP": (1.0, MCP(3.0, 1.0))}

    patch.setattr(penalties_run, "of_figure", wrong)


def one_percent_more_weight(patch):
    right = problem.Cells.retain

    def wrong(self, w):
        heavier = problem.Cells(self.gram, self.moment, self.energy, 1.01 * self.weight, self.penalties)
        return right(heavier, w)

    patch.setattr(problem.Cells, "retain", wrong)


def masks_of_another_weight(patch):
    right = regression_run.trained_under_masks

    def wrong(cells, *given, **more):
        return right(replace(cells, weight=30 * cells.weight), *given, **more)

    patch.setattr(regression_run, "trained_under_masks", wrong)


def hardly_iterated(patch):
    right = regression_run.reweighted
    patch.setattr(regression_run, "reweighted", lambda cells, start, iterations, tolerance: right(cells, start, 1, 1.0))


def another_truth(patch):
    right = regression_run.load

    def wrong(*given):
        found = right(*given)
        return found._replace(truth=found.truth.roll(1))

    patch.setattr(regression_run, "load", wrong)


def everything_is(penalty):
    def wrong(patch):
        right = regression_run.penalties_of
        patch.setattr(regression_run, "penalties_of", lambda options: dict.fromkeys(right(options), (penalty, 1.0)))

    wrong.__name__ = f"everything_is_{type(penalty).__name__}"
    return wrong


# The claims that SGD under masks has a part in; the others hold without it.
TRAINED = {"masks_find_the_point", "masks_find_the_support", "masks_keep_what_l1_keeps", "masks_find_l1s_support"}
TRAINED |= {"sparse_penalties_give_zeros"}
CONTROLS = [
    ("adaptive_penalties", variance_without_division, {"dropout_is_tikhonov", "pooled_slope"}),
    ("adaptive_penalties", bernoulli_alone_is_wrong, {"noises_agree"}),
    ("adaptive_penalties", one_percent_more, {"pooled_slope"}),
    ("adaptive_penalties", another_integral(1.01), {"integral_is_penalty"}),
    ("adaptive_penalties", another_integral(4.0), {"monotone_is_subquadratic"}),
    ("adaptive_penalties", another_integral(0.2), {"decreasing_is_not"}),
    ("adaptive_penalties", another_conjugate, {"dual_is_conjugate"}),
    ("adaptive_penalties", other_curves, {"variational_is_log_sum", "gates_are_mcp"}),
    ("adaptive_regression", variance_without_division, {"masks_find_the_point", "masks_keep_what_l1_keeps"}),
    ("adaptive_regression", masks_of_another_weight, {"masks_find_the_support", "masks_find_l1s_support"}),
    ("adaptive_regression", one_percent_more_weight, {"reweighting_is_stationary", "peer_is_not_below"}),
    ("adaptive_regression", hardly_iterated, {"reweighting_is_stationary", "starts_agree", "l1_recovers"}),
    ("adaptive_regression", another_truth, {"concave_penalties_recover", "l1_misses_nothing"}),
    ("adaptive_regression", everything_is(L1()), {"controls_leave_no_zeros"}),
    ("adaptive_regression", everything_is(strategies.Ridge()), {"sparse_penalties_give_zeros"}),
]


@pytest.mark.parametrize(
    ("experiment", "wrong", "expected"), CONTROLS, ids=[f"{e}-{w.__name__}" for e, w, _ in CONTROLS]
)
def test_a_wrong_theory_fails(experiment, wrong, expected, tmp_path, monkeypatch):
    if wrong.__name__ == "everything_is_Ridge":  # no prox: the peer cannot follow
        monkeypatch.setattr(regression_run, "proximal_gradient", regression_run.reweighted)
    wrong(monkeypatch)
    untrained = experiment == "adaptive_regression" and not expected & TRAINED
    found = decisions(run(experiment, tmp_path, *["training.steps=20"] * untrained))
    assert {claim for claim, decision in found.items() if decision == "fails"} >= expected, found


def test_every_claim_has_a_control():
    controlled = {(name, claim) for name, _, expected in CONTROLS for claim in expected}
    stated = {(name, claim.id) for name in OVERRIDES for claim in Experiment(module_of(name)).claims}
    assert stated == controlled


# ---------------------------------------------------------------------- what is asked for


def test_threads_leave_the_numbers_of_regression_the_same(tmp_path):
    few = ["training.steps=100", "seed=0"]
    one, two = (run("adaptive_regression", tmp_path / n, *few, f"threads={n}") for n in "12")
    assert np.array_equal(one.arrays["weights"], two.arrays["weights"])


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["experiment=adaptive_regression", "options.strengths=[0.0]"], "options.strengths=0.0: must be greater than"),
        (
            ["experiment=adaptive_regression", "options.mask_strengths=[0.3]"],
            "options.mask_strengths=0.3: must be of options.strengths, 0.05, 0.1, 0.2, 0.4, 0.8",
        ),
        (["experiment=adaptive_regression", "data.nonzeros=300"], "data.nonzeros=300: must be at most data.features="),
        (["experiment=adaptive_regression", "data=mnist5k"], "data.kind=mnist5k: adaptive_regression takes data="),
        (["experiment=adaptive_regression", "model.width=3"], "model.width=3: has no effect here, what is trained"),
        (["experiment=adaptive_regression", "dropout=gaussian"], "dropout=gaussian: has no effect here, how much is"),
        (["experiment=adaptive_penalties", "training.steps=7"], "training.steps=7: has no effect here, nothing is"),
        (["experiment=adaptive_penalties", "options.weight=-1"], "options.weight=-1: must be greater than 0"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_runs(typed, message, told):
    assert told(*typed, "scale=cpu", "device=cpu").startswith(message)


def test_the_ridge_of_the_controls():
    w = torch.tensor([0.0, -2.0], dtype=torch.float64)
    ridge = strategies.Ridge()
    assert ridge.value(w).tolist() == [0, 2]
    assert ridge.retain(w, 0.25).tolist() == [0.8, 0.8]
