"""Every claim holds on an honest record, and fails on one from a deliberately wrong theory."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from repro import dropout, theory
from repro.data import linear as linear_data
from repro.papers.structured_dropout import dropblock_approximation, last_layer_dropout
from repro.pipeline import settings
from repro.pipeline.claims import Claim
from repro.pipeline.composition import conf
from repro.pipeline.execution.making import compute
from repro.pipeline.experiment import Experiment
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings.config import module_of
from repro.pipeline.store import Result, Run
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
    "dropconnect": ["dropout.retain=0.6", "training.steps=600", "options.monte_carlo_masks=4096"],
    "global_minimum": ["dropout.block_size=[1,2]", "dropout.p=[0.7,0.9]", "training.steps=2000"],
    "rank_collapse": ["dropout.block_size=[1,2]", "dropout.p=[0.5,0.7,0.9]", "training.steps=2000"],
}


@pytest.fixture
def record_of(tmp_path):
    def run(experiment):
        results = [f"results={tmp_path}", "force=true"]
        config = settings.load([f"experiment={experiment}", *SMALL, *OVERRIDES[experiment], *results])
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


CONTROLS = [
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
    found = decisions(record_of(experiment))
    assert {claim for claim, decision in found.items() if decision == "fails"} >= expected, found


# ---------------------------------------------------------------------- deep networks, on made-up records

SIZES, RETAINS, WIDTH = (1, 4), (0.1, 0.5, 0.9), 64


def deep_record(tmp_path, *, imbalance=1.0, wrong=lambda cells, curves, arrays: None):
    """A record as a network would leave it that follows the theory exactly but for a little noise; `wrong` edits it."""
    config = settings.load(
        [
            "experiment=last_layer_dropout",
            "scale=cpu",
            "device=cpu",
            f"data.imbalance={imbalance}",
            f"results={tmp_path}",
        ]
    )
    noise = np.random.default_rng(0)
    target = np.sqrt(400.0 * imbalance ** (-np.arange(10) / 9))
    grid = [("none", 1, 1.0), *(("dropblock", r, theta) for r in SIZES for theta in RETAINS)]
    cells = pd.DataFrame(grid, columns=["scheme", "block_size", "retain"]).rename_axis("cell").reset_index()
    weight = cells.block_size / WIDTH * (1 - cells.retain) / cells.retain
    closed = np.stack(
        [
            theory.shrink_singular_values(torch.from_numpy(target), int(r), float(w)).numpy()
            for r, w in zip(cells.block_size, weight, strict=True)
        ]
    )
    arrays = {
        "target": target,
        "closed_form": closed,
        "singular_values": closed * noise.uniform(0.99, 1.01, closed.shape),
    }
    cells = cells.assign(
        seed=0,
        penalty_weight=weight,
        test_accuracy=0.98,
        tightness=np.where(cells.scheme == "none", 0.7, 0.99),
        imbalance=0.02,
    )
    curves = cells[["cell"]].assign(step=1, deterministic=0.5, monte_carlo=0.501, standard_error=0.001)
    wrong(cells, curves, arrays)
    error = np.linalg.norm(arrays["singular_values"] - closed, axis=1) / np.linalg.norm(closed, axis=1)
    result = Result(cells.assign(singular_value_error=error), curves, arrays)
    return Run(config).write(result, {})


def test_deep_claims_hold_on_records_that_follow_the_theory(tmp_path):
    balanced = decisions(deep_record(tmp_path / "balanced"))
    long_tailed = decisions(deep_record(tmp_path / "long_tailed", imbalance=50.0))
    assert set((balanced | long_tailed).values()) == {"holds"}, (balanced, long_tailed)
    stated = {claim.id for claim in last_layer_dropout.CLAIMS}
    assert set(balanced) | set(long_tailed) == stated


def other_objective(cells, curves, arrays):
    curves["monte_carlo"] = 0.55


def blunt_measurement(cells, curves, arrays):
    curves["monte_carlo"], curves["standard_error"] = 0.55, 0.05


def no_shrinkage(cells, curves, arrays):
    arrays["singular_values"][:] = arrays["target"]


def nuclear_shrinkage(cells, curves, arrays):
    """Every block size shrunk as if it were 1, with the rate of its own size."""
    for cell, r, retain in cells[["cell", "block_size", "retain"]].itertuples(index=False):
        weight = r * 8 / WIDTH * (1 - retain) / retain
        arrays["singular_values"][cell] = theory.shrink_singular_values(torch.from_numpy(arrays["target"]), 1, weight)


def poor_features(cells, curves, arrays):
    cells["tightness"] = 0.7


def one_large_block(cells, curves, arrays):
    cells["imbalance"] = 0.4


def untrained(cells, curves, arrays):
    cells["test_accuracy"] = 0.1


DEEP_CONTROLS = [
    (other_objective, 1.0, {"stochastic_is_deterministic"}),
    (blunt_measurement, 1.0, {"stochastic_is_deterministic"}),
    (no_shrinkage, 1.0, {"predictions_follow_closed_form", "shrinkage_order"}),
    (nuclear_shrinkage, 1.0, {"predictions_follow_closed_form"}),
    (poor_features, 1.0, {"assumption_is_tight"}),
    (one_large_block, 1.0, {"balanced_blocks"}),
    (untrained, 1.0, {"network_learns"}),
    (no_shrinkage, 50.0, {"one_after_another"}),
]


@pytest.mark.parametrize(("wrong", "imbalance", "expected"), DEEP_CONTROLS)
def test_a_network_that_does_not_follow_the_theory_fails(wrong, imbalance, expected, tmp_path):
    found = decisions(deep_record(tmp_path, imbalance=imbalance, wrong=wrong))
    assert {claim for claim, decision in found.items() if decision == "fails"} >= expected, found


def approximation_record(tmp_path, accuracy=0.0, loss=0.0, noise=0.001, seeds=5):
    config = settings.load(["experiment=dropblock_approximation", "scale=cpu", "device=cpu", f"results={tmp_path}"])
    draw = np.random.default_rng(1)
    rows = []
    for seed in range(seeds):
        rows.append({"place": "none", "scheme": "none", "seed": seed, "test_accuracy": 0.9, "train_loss": 0.05})
        for place in dropblock_approximation.PLACES:
            for scheme in ("disjoint", "original"):
                off = scheme == "disjoint"
                rows.append(
                    {"place": place, "scheme": scheme, "seed": seed}
                    | {"test_accuracy": 0.9 + accuracy * off + noise * draw.normal()}
                    | {"train_loss": 0.15 + loss * off + noise * draw.normal()}
                )
    cells = pd.DataFrame(rows).assign(block_size=3, retain=0.8).rename_axis("cell").reset_index()
    return Run(config).write(Result(cells), {})


def test_equal_schemes_are_shown_to_be_equivalent(tmp_path):
    assert set(decisions(approximation_record(tmp_path)).values()) == {"holds"}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"accuracy": 0.02}, "accuracy"),
        ({"accuracy": -0.02}, "accuracy"),
        ({"noise": 0.05}, "accuracy"),  # no significant difference, and no equivalence either
        ({"seeds": 1}, "accuracy"),
        ({"loss": 0.05}, "loss"),
        ({"loss": -0.05}, "loss"),
    ],
)
def test_schemes_that_differ_or_are_not_known_to_be_equal_fail(changes, kind, tmp_path):
    found = decisions(approximation_record(tmp_path, **changes))
    assert {found[f"equal_{kind}_features"], found[f"equal_{kind}_maps"]} == {"fails"}


def test_every_claim_has_a_control():
    controlled = {(module, claim) for module, _, expected in CONTROLS for claim in expected}
    controlled |= {("last_layer_dropout", claim) for *_, expected in DEEP_CONTROLS for claim in expected}
    controlled |= {("dropblock_approximation", c.id) for c in dropblock_approximation.CLAIMS}  # the test above
    modules = {conf.composed([f"experiment={name}"])["module"] for name in conf.experiments()}
    modules -= {"deep_linear_collapse", "deep_linear_regularizer"}  # theirs are in test_deep_linear.py
    stated = {(module, claim.id) for module in modules for claim in claims_of(module)}
    assert stated == controlled


# ---------------------------------------------------------------------- verdicts


def claim(values, **changes):
    measure = pd.Series(values, index=range(len(values)), dtype=float)
    fields = {
        "id": "c",
        "statement": "",
        "source": "",
        "quantity": "",
        "because": "",
        "measure": lambda record: measure,
    }
    return Claim(**(fields | {"low": -1.0, "high": 1.0} | changes))


@pytest.fixture(scope="module")
def any_record(tmp_path_factory):
    return deep_record(tmp_path_factory.mktemp("results"))


@pytest.mark.parametrize(
    ("values", "rule", "decision"),
    [
        ([0.5], "every", "holds"),
        ([1.0, -1.0], "every", "holds"),
        ([0.5, 1.01], "every", "fails"),
        ([0.5, np.nan], "every", "fails"),
        ([0.1, 0.2, 0.15], "interval", "holds"),
        ([-3.0, 0.0, 3.0], "interval", "fails"),  # the mean is inside, its interval is not
        ([0.1], "interval", "fails"),
        ([0.1, np.nan], "interval", "fails"),
    ],
)
def test_decisions(values, rule, decision, any_record):
    assert verdicts.judge(claim(values, rule=rule), any_record, experiment="e", command="").decision == decision


def test_what_cannot_be_decided_is_not_measured(any_record):
    without = verdicts.judge(claim([0.0]), None, experiment="e", command="python x")
    assert (without.decision, without.command, without.note) == ("not measured", "python x", "no record")
    small = verdicts.judge(replace(claim([0.0]), scales=("gpu",)), any_record, experiment="e", command="")
    assert (small.decision, small.note) == ("not measured", "not decided at scale cpu")
    assert verdicts.judge(claim([]), any_record, experiment="e", command="") is None


def test_the_farthest_value_is_the_decisive_one(any_record):
    verdict = verdicts.judge(claim([0.1, 2.0, 0.2], low=-np.inf), any_record, experiment="e", command="")
    assert verdict.decisive == 2.0
    assert verdict.measured.startswith("2 (mean 0.767 ± ")


def test_confidence_interval_is_students():
    low, high = verdicts.confidence_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-6)
