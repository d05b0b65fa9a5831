"""Every claim holds on an honest record, and fails on one from a deliberately wrong theory."""

from dataclasses import replace

import pytest
import torch

from repro import dropout, theory
from repro.data import linear as linear_data
from repro.pipeline import settings
from repro.pipeline.composition import conf
from repro.pipeline.execution.making import compute
from repro.pipeline.experiment import Experiment
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings.config import module_of
from repro.pipeline.store import Run
from repro.pipeline.system.progress import Progress
from repro.theory import minimizer, objectives, support_norm
from repro.training.sweep.engine import Schedule

# Small problems, trained long enough for every claim of the cpu scale to hold; one second each.
SMALL = [
    "scale=cpu",
    "device=cpu",
    "threads=1",
    "seed=0",
    "tracking.mode=disabled",
    "data.in_features=12",
    "data.out_features=10",
    "data.samples=80",
    "data.rank=6",
    "model.width=8",
]
MASKS = ["options.monte_carlo_masks=65536"]  # so few units leave a loss that varies a lot from mask to mask
OVERRIDES = {
    "dropblock_objective": ["dropout.block_size=[1,4]", "dropout.retain=[0.7,0.9]", "training.steps=600", *MASKS],
    "any_dropout": ["dropout.retain=0.8", "training.steps=600", *MASKS],
    "dropconnect": ["dropout.retain=0.6", "training.steps=600", "options.monte_carlo_masks=16384"],
    "global_minimum": [
        "dropout.block_size=[1,2]",
        "dropout.p=[0.7,0.9]",
        "training.steps=2000",
        "options.width_needed.starts=1",
    ],
    "rank_collapse": ["dropout.block_size=[1,2]", "dropout.p=[0.5,0.7,0.9]", "training.steps=2000"],
    "global_minimum_any_dropout": ["dropout.retain=0.5", "dropout.block_size=2", "training.steps=6000"],
    "wide_networks": ["dropout.block_size=[1,2]", "training.steps=3000"],
}


@pytest.fixture
def record_of(tmp_path):
    def run(experiment, *more):
        results = [f"results={tmp_path}", "force=true"]
        config = settings.load([f"experiment={experiment}", *SMALL, *OVERRIDES[experiment], *results, *more])
        return Run(config, "the command").write(compute(config, Progress("", quiet=True)), {})

    return run


def claims_of(module):
    return Experiment(module_of(module)).claims


def decisions(record):
    found = {}
    for claim in claims_of(record.config["module"]):
        verdict = verdicts.judge(claim, record, experiment=record.experiment, command="")
        if verdict is not None:
            found[claim.id] = verdict.decision
    return found


@pytest.mark.parametrize("experiment", list(OVERRIDES))
def test_all_claims_hold_on_an_honest_record(experiment, record_of):
    found = decisions(record_of(experiment))
    assert found
    assert set(found.values()) == {"holds"}, found


# ---------------------------------------------------------------------- wrong theories


def weight_without_division(patch):
    """(1 − θ) for (1 − θ)/θ."""
    patch.setattr(objectives, "_relative_variance", lambda retain, *matrices: 1 - retain)


def covariance_of_independent_units(patch):
    """Σ over i alone: the correlations of a general distribution left out."""
    right = objectives.expected_objective

    def wrong(U, V, X, Y, mean, covariance):
        return right(U, V, X, Y, mean, covariance.diagonal().diag())

    patch.setattr(theory, "expected_objective", wrong)


def shuffled_blocks(patch):
    """Blocks of units that are not dropped together."""
    right = objectives.dropblock_objective

    def wrong(U, V, X, Y, block_size, retain):
        order = torch.randperm(U.shape[-1], generator=torch.Generator().manual_seed(0))
        return right(U[..., order], V[..., order], X, Y, block_size, retain)

    patch.setattr(theory, "dropblock_objective", wrong)


def half_the_covariance_in_training(patch):
    """Deterministic descent on half the penalty."""
    for distribution in (
        dropout.DropBlock,
        dropout.Bernoulli,
        dropout.CorrelatedGaussian,
        dropout.OverlappingDropBlock,
    ):
        right = distribution.covariance
        getter = right.func if hasattr(right, "func") else right.fget
        patch.setattr(distribution, "covariance", property(lambda self, getter=getter: getter(self) / 2))


def one_percent_more(patch):
    """A penalty too large by a hundredth, which no single comparison sees."""
    variance, general = objectives._relative_variance, objectives.expected_objective
    patch.setattr(objectives, "_relative_variance", lambda *given: 1.01 * variance(*given))
    patch.setattr(theory, "expected_objective", lambda U, V, X, Y, mean, C: general(U, V, X, Y, mean, 1.01 * C))


def half_the_penalty_of_weights(patch):
    """The same for DropConnect, whose engine reads the masks' means."""
    right = dropout.DropConnect.mean.fget
    patch.setattr(
        dropout.DropConnect, "mean", property(lambda self: right(self) / (right(self) + (1 - right(self)) / 2))
    )


def unwhitened(patch):
    """Inputs taken for whitened that are not."""
    patch.setattr(linear_data, "whiten", lambda X: X)


def everything_whitened(patch):
    """The control of the control: with whitened inputs masks on V are Dropout, and the difference is gone."""
    right = linear_data.load
    patch.setattr(linear_data, "load", lambda config: right(config.model_copy(update={"whiten": True})))


def nuclear_norm(patch):
    """The nuclear norm, block size 1, for the r-support norm; nothing for r = 1 itself."""
    right = support_norm.prox_squared_k_support
    patch.setattr(minimizer, "prox_squared_k_support", lambda values, k, penalty: right(values, 1, penalty))


def nuclear_norm_everywhere(patch):
    nuclear_norm(patch)
    right = support_norm.spectral_k_support_norm
    patch.setattr(theory, "spectral_k_support_norm", lambda matrix, k: right(matrix, 1))


def frobenius_norm(patch):
    """The Frobenius norm, block size n: every singular value shrunk by one factor, no collapse of the rank."""
    right = support_norm.prox_squared_k_support
    patch.setattr(
        minimizer, "prox_squared_k_support", lambda values, k, penalty: right(values, values.shape[-1], penalty)
    )


def wrong_rho(patch):
    """ρ = 1 always: the sum of all singular values shares in the penalty, the leading ones are not spared."""
    right = support_norm.prox_squared_k_support

    def wrong(values, k, penalty):
        return right(values, 1, penalty / k)

    patch.setattr(minimizer, "prox_squared_k_support", wrong)


def hardly_trained(patch):
    """A network that has not got to a minimum, where alone blocks are balanced."""
    right = Schedule.of
    patch.setattr(Schedule, "of", lambda training: replace(right(training), steps=5))


def wrong_rate(patch):
    """λ = 1 − p for (1 − p)/p."""
    right = theory.global_minimizer
    patch.setattr(theory, "global_minimizer", lambda Y, X, r, p: right(Y, X, r, 1 / (2 - p)))


def descending_order_of_ranks(patch):
    """A theory in which dropout raises the rank."""
    right = theory.global_minimizer
    patch.setattr(theory, "global_minimizer", lambda Y, X, r, p: right(Y, X, r, 1 - p))


def rank_of_squares(patch):
    """Another measure of rank, for the trained network and the closed form alike."""
    right = theory.effective_rank
    patch.setattr(theory, "effective_rank", lambda values: right(values.square()))


def width_by_rank(patch):
    """As many units as the minimiser has directions, however unequal."""
    right = theory.shrink_singular_values
    patch.setattr(theory, "blocks_needed", lambda m, r, penalty: -(-int((right(m, r, penalty) > 1e-9).sum()) // r))


def one_rate_for_every_width(patch):
    """θ = p."""
    patch.setattr(theory, "retain_probability", lambda p, width, block_size: p)


def frobenius_norm_of_what_is_learned(patch):
    patch.setattr(theory, "k_support_norm", lambda values, k: values.norm())


CONTROLS = [
    ("dropblock_objective", one_percent_more, {"pooled_slope"}),
    ("any_dropout", one_percent_more, {"pooled_slope"}),
    ("dropconnect", one_percent_more, {"pooled_slope"}),
    ("global_minimum", width_by_rank, {"width_needed"}),
    ("global_minimum_any_dropout", half_the_covariance_in_training, {"sgd_reaches_solver"}),
    ("wide_networks", one_rate_for_every_width, {"stays_at_fixed_p"}),
    ("wide_networks", frobenius_norm_of_what_is_learned, {"vanishes_at_fixed_rate"}),
    ("wide_networks", nuclear_norm, {"sgd_reaches_minimum", "sgd_reaches_minimizer", "singular_values"}),
    ("wide_networks", hardly_trained, {"balanced_blocks"}),
    ("dropblock_objective", weight_without_division, {"stochastic_is_deterministic"}),
    ("dropblock_objective", shuffled_blocks, {"stochastic_is_deterministic"}),
    ("dropblock_objective", half_the_covariance_in_training, {"same_descent"}),
    ("any_dropout", covariance_of_independent_units, {"any_distribution"}),
    ("any_dropout", half_the_covariance_in_training, {"any_distribution", "same_descent"}),
    ("dropconnect", weight_without_division, {"stochastic_is_deterministic"}),
    ("dropconnect", unwhitened, {"dropconnect_is_dropout"}),
    ("dropconnect", everything_whitened, {"correlated_inputs_differ"}),
    ("dropconnect", half_the_penalty_of_weights, {"same_descent"}),
    ("global_minimum", nuclear_norm, {"closed_form_is_the_minimum", "sgd_reaches_minimum", "singular_values"}),
    ("global_minimum", frobenius_norm, {"sgd_reaches_minimizer", "closed_form_is_the_minimum", "width_needed"}),
    ("global_minimum", nuclear_norm_everywhere, {"induced_regularizer"}),
    ("global_minimum", wrong_rho, {"closed_form_is_the_minimum"}),
    ("global_minimum", wrong_rate, {"sgd_reaches_minimum", "singular_values", "width_needed"}),
    ("global_minimum", hardly_trained, {"balanced_blocks"}),
    ("rank_collapse", frobenius_norm, {"sgd_reaches_minimum", "sgd_reaches_minimizer", "singular_values"}),
    ("rank_collapse", wrong_rate, {"effective_rank", "singular_values"}),
    ("rank_collapse", rank_of_squares, {"effective_rank"}),
    ("rank_collapse", descending_order_of_ranks, {"rank_falls", "effective_rank"}),
    ("rank_collapse", hardly_trained, {"balanced_blocks"}),
]


@pytest.mark.parametrize(
    ("experiment", "wrong", "expected"), CONTROLS, ids=[f"{e}-{w.__name__}" for e, w, _ in CONTROLS]
)
def test_a_wrong_theory_fails(experiment, wrong, expected, record_of, monkeypatch):
    wrong(monkeypatch)
    # the width that the closed form needs is most of the work, and another problem than that of the grid
    grid_alone = experiment == "global_minimum" and "width_needed" not in expected
    found = decisions(record_of(experiment, *["options.width_needed=null"] * grid_alone))
    assert {claim for claim, decision in found.items() if decision == "fails"} >= expected, found


def test_every_claim_has_a_control():
    controlled = {(name.removesuffix("_any_dropout"), claim) for name, _, expected in CONTROLS for claim in expected}
    modules = {conf.composed([f"experiment={name}"])["module"] for name in conf.experiments()}
    modules -= {"deep_linear_collapse", "deep_linear_regularizer"}  # theirs are in test_deep_linear.py
    modules -= {name for name in modules if name.startswith("adaptive_")}  # in adaptive_dropout/
    modules -= {"dropblock_approximation", "last_layer_dropout"}  # in structured_dropout/, files of their own
    modules -= {"structured_noise", "structured_posterior"}  # in variational_structured_dropout/
    modules -= {"variational_regression", "variational_classification"}
    modules -= {"incremental_pruning", "incremental_schedule"}  # in incremental_regularization/
    modules -= {"structured_output_landmarks", "structured_output_digits"}  # in structured_output/
    stated = {(module, claim.id) for module in modules for claim in claims_of(module)}
    assert stated == controlled
