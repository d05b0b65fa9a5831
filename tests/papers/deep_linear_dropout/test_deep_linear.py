"""The companion paper's experiments at a size of seconds: what they measure, their claims, and controls of each."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from repro import theory
from repro.papers.deep_linear_dropout import sgd
from repro.papers.deep_linear_dropout.deep_linear_collapse import COLLAPSE, measured_share
from repro.pipeline import settings
from repro.pipeline.execution.making import compute
from repro.pipeline.experiment import Experiment
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings.config import module_of
from repro.pipeline.store import Run
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.theory import deep_linear
from repro.training.sweep import solver

SMALL = ["scale=cpu", "device=cpu", "threads=1", "tracking.mode=disabled", "seed=0", "model.depth=[2,3]"]
OVERRIDES = {
    "deep_linear_regularizer": [
        "model.width=[4,6]",
        "dropout.retain=[0.6,0.8]",
        "training.steps=300",
        "training.log_points=4",
        "options.random_networks=400",
    ],
    "deep_linear_collapse": [
        "model.width=4",
        "dropout.retain=[0.2,0.4,0.8]",
        "training.steps=1500",
        "options.starts=1",
    ],
}


def run(experiment, folder, *overrides):
    results = [f"results={folder}", "force=true"]
    config = settings.load([f"experiment={experiment}", *SMALL, *OVERRIDES[experiment], *overrides, *results])
    return Run(config, "the command").write(compute(config, Progress("", quiet=True)), {})


def experiment_of(record):
    return Experiment(module_of(record.config["module"]))


@pytest.fixture(scope="module")
def regularizer(tmp_path_factory):
    return run("deep_linear_regularizer", tmp_path_factory.mktemp("r"))


@pytest.fixture(scope="module")
def collapse(tmp_path_factory):
    return run("deep_linear_collapse", tmp_path_factory.mktemp("c"))


def decisions(record):
    found = [
        verdicts.judge(claim, record, experiment=record.experiment, command="")
        for claim in experiment_of(record).claims
    ]
    return {verdict.claim.id: verdict.decision for verdict in found if verdict is not None}


@pytest.mark.parametrize("name", ["regularizer", "collapse"])
def test_all_claims_hold_on_an_honest_record(name, request):
    found = decisions(request.getfixturevalue(name))
    assert len(found) == {"regularizer": 5, "collapse": 6}[name]
    assert set(found.values()) == {"holds"}, found


def test_the_regulariser_is_measured_on_every_iterate(regularizer):
    curves = regularizer.table("curves")
    assert len(regularizer.cells) == 2 * 2 * 2
    assert (curves.groupby("cell").step.nunique() == curves.step.nunique()).all()
    assert (curves.standard_error < 0.01 * curves.deterministic).all()
    assert (curves.monte_carlo != curves.deterministic).all()
    # The control: one layer at a time is everything for one hidden layer, and too little for two.
    relative = curves.layer_by_layer / curves.deterministic
    assert relative[curves.depth == 2].between(1 - 1e-6, 1 + 1e-6).all()
    assert (relative[curves.depth == 3] < 0.99).all()
    assert (regularizer.cells.mixed.abs() > 1e-3).all()
    assert regularizer.arrays["random_ratio"].shape == (4, 100)


def test_ranks_fall_with_dropout_and_depth(collapse):
    ranks = collapse.cells.pivot_table(index="depth", columns="retain", values="effective_rank").to_numpy()
    assert (np.diff(ranks, axis=1) > -1e-3).all()
    assert (np.diff(ranks, axis=0) < 1e-3).all()
    assert ranks[0, 0] < 1.05 < ranks[1, -1] < ranks[0, -1]
    assert (collapse.cells.relative_gap > -1e-6).all()
    known = collapse.cells.solver_objective.notna()
    assert (known == ((collapse.cells.depth == 2) | (collapse.cells.retain <= collapse.cells.critical_retain))).all()


def test_the_onset_is_between_two_solves(collapse):
    found = pd.DataFrame({name: collapse.arrays[f"collapse_{name}"] for name in COLLAPSE})
    share = measured_share(found)
    assert share[found.depth == 2].tolist() == [1.0]
    assert share[found.depth == 3].sub(1).abs().max() < 1e-3
    assert (found.onset > found.predicted * (1 + 1e-9))[found.depth == 3].all()  # less dropout is enough
    # Controls: the second value dead before, alive after; the branch low on both sides, or another start lower.
    assert measured_share(found.assign(below=1e-9)).isna().all()
    assert measured_share(found.assign(above=1e-3))[found.depth == 2].isna().all()
    for wrong in ({"gap_above": -1e-3}, {"gap_below": 1e-3}, {"least": -1e-3}):
        assert measured_share(found.assign(**wrong))[found.depth == 3].isna().all()


def test_p_sets_a_rate_that_depends_on_the_width():
    cfg = settings.load(["experiment=deep_linear_collapse", "dropout.p=0.8", "dropout.retain=null", *SMALL])
    tables = [group.table for group in sgd.groups(cfg)]
    assert all((table.p == 0.8).all() for table in tables)
    for table in tables:
        np.testing.assert_allclose(table.penalty, 0.8 ** (1.0 - table.depth) - 1, rtol=1e-12)
    assert len({float(table.retain[0]) for table in tables}) == len(cfg.model.width)


def test_the_size_of_the_grid_is_known():
    cfg = settings.load(["experiment=deep_linear_collapse", *SMALL])
    assert cfg.networks == sum(len(group.table) for group in sgd.groups(cfg))
    assert cfg.cells == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dropout=dropblock", "dropout.scheme=dropblock: deep_linear_regularizer takes dropout=bernoulli$"),
        ("model.depth=1", "model.depth=1: must be at least 2"),
        ("model=linear", "model.kind=linear: deep_linear_regularizer takes model=deep_linear$"),
        ("options.standard_error=0", "options.standard_error=0: must lie in"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(UserError, match=message):
        settings.load(["experiment=deep_linear_regularizer", override])


def test_a_diverging_network_leaves_a_record(tmp_path, drawn):
    record = run("deep_linear_collapse", tmp_path, "training.learning_rate=50", "training.steps=30")
    assert record.cells.diverged.any()
    assert decisions(record)["collapse_is_certain"] == "fails"
    assert decisions(record)["rank_one_closed_form"] == "holds"  # L-BFGS has no learning rate


# ---------------------------------------------------------------------- wrong theories


def layers_one_by_one(patch):
    """The sets of one layer alone."""
    right, never = theory.deep_dropout_regularizer, 1 - 2.0**-53

    def wrong(weights, X, retain):
        layers = range(len(weights) - 1)
        if isinstance(retain, list):  # the experiment's own control
            return right(weights, X, retain)
        return sum(right(weights, X, [retain if i == j else never for j in layers]) for i in layers)

    patch.setattr(theory, "deep_dropout_regularizer", wrong)


def weight_decay_too(patch):
    """A little of what rescaling changes."""
    right = theory.deep_dropout_regularizer
    patch.setattr(
        theory,
        "deep_dropout_regularizer",
        lambda weights, X, retain: right(weights, X, retain) + 1e-9 * weights[0].square().sum((-2, -1)),
    )


def bound_too_high(patch):
    right = theory.regularizer_bound
    patch.setattr(theory, "regularizer_bound", lambda *given: 1.001 * right(*given))


def bound_of_another_norm(patch):
    """The spectral 2-support norm for the nuclear norm: never above it, so that the bound still bounds."""
    right = deep_linear.spectral_k_support_norm
    patch.setattr(deep_linear, "spectral_k_support_norm", lambda matrix, k: right(matrix, 2))


def sum_for_product(patch):
    """Σ λ_i/d_i for Π (1 + λ_i/d_i) − 1."""
    patch.setattr(theory, "induced_penalty", lambda widths, retain: sum((1 - retain) / retain / d for d in widths))


def one_percent_more(patch):
    """A regulariser too large by a hundredth, which no single comparison sees."""
    right = theory.deep_dropout_regularizer
    patch.setattr(theory, "deep_dropout_regularizer", lambda *given: 1.01 * right(*given))


def onset_off_by_two_percent(patch):
    right = theory.collapse_onset
    patch.setattr(
        theory, "collapse_onset", lambda m, layers: right(m, layers)._replace(rate=1.02 * right(m, layers)[0])
    )


def onset_where_rank_one_is_certain(patch):
    """The bound's onset for the optimum's, continuous at any depth."""

    def wrong(m, layers):
        return theory.Onset(float((1 + theory.critical_penalty(m)) ** (1 / layers) - 1), 1e-3)

    patch.setattr(theory, "collapse_onset", wrong)


def late_collapse(patch):
    """A rate of collapse at a tenth of the dropout."""
    right = theory.critical_retain

    def wrong(spectrum, widths):
        theta = right(spectrum, widths)
        return theta / (theta + 0.1 * (1 - theta))

    patch.setattr(theory, "critical_retain", wrong)


def another_rate_for_one_layer(patch):
    right = solver.solve

    def wrong(target, residual, masks, seed):
        return right(target, residual, type(masks)(masks.width, masks.retain * (1 - 1e-6)), seed)

    patch.setattr(solver, "solve", wrong)


@pytest.mark.parametrize(
    ("wrong", "experiment", "failing"),
    [
        (layers_one_by_one, "deep_linear_regularizer", {"recursion_is_expectation", "lower_bound"}),
        (weight_decay_too, "deep_linear_regularizer", {"rescaling"}),
        (bound_too_high, "deep_linear_regularizer", {"lower_bound"}),
        (bound_of_another_norm, "deep_linear_regularizer", {"bound_is_attained"}),
        (sum_for_product, "deep_linear_collapse", {"rank_one_closed_form"}),
        (one_percent_more, "deep_linear_regularizer", {"pooled_slope"}),
        (late_collapse, "deep_linear_collapse", {"collapse_is_certain"}),
        (onset_off_by_two_percent, "deep_linear_collapse", {"onset_one_layer", "onset_deeper"}),
        (onset_where_rank_one_is_certain, "deep_linear_collapse", {"onset_deeper", "onset_jumps"}),
        (another_rate_for_one_layer, "deep_linear_collapse", {"depth_two"}),
    ],
)
def test_claims_fail_under_a_wrong_theory(wrong, experiment, failing, tmp_path, monkeypatch):
    wrong(monkeypatch)
    found = decisions(run(experiment, tmp_path))
    assert {claim for claim, decision in found.items() if decision == "fails"} >= failing


# ---------------------------------------------------------------------- figures


def test_figures_of_the_regulariser(regularizer, drawn):
    axes = drawn(SimpleNamespace(record=regularizer))
    assert {name: len(panels) for name, panels in axes.items()} == {"regularizer": 2, "standard_errors": 2, "bound": 2}


def test_figures_of_the_collapse(collapse, drawn):
    axes = drawn(SimpleNamespace(record=collapse))
    assert {name: len(panels) for name, panels in axes.items()} == {"collapse": 2, "rate": 1, "spectra": 2}


def test_captions_are_of_the_figures(regularizer, collapse):
    for record, names in (
        (regularizer, {"regularizer", "standard_errors", "bound"}),
        (collapse, {"collapse", "rate", "spectra"}),
    ):
        experiment = experiment_of(record)
        assert set(experiment.captions) == names
        assert {claim.figure for claim in experiment.claims} <= {*names, ""}
