"""The claims on deep networks hold on a record that follows the theory, and fail on one that follows another."""

import numpy as np
import pytest
import torch

from repro import theory
from repro.papers.structured_dropout import last_layer_dropout
from repro.papers.structured_dropout.last_layer_dropout import run
from repro.papers.structured_dropout.last_layer_dropout.rivals import PRECISION, RIVALS
from repro.pipeline import settings
from repro.pipeline.presentation import verdicts
from repro.pipeline.store import Result, Run
from repro.training.network import measurement
from repro.training.sweep.noise import Problem

COUNTS = np.round(400 * 20.0 ** (-np.arange(10) / 9))
NOISE = 0.008  # of ‖a‖, in a random direction: what training leaves


def nothing(cells, curves, arrays, theories):
    """The theory itself."""


def decisions(tmp_path, experiment="last_layer_embedding", wrong=nothing, believed=None, **changes):
    """Verdicts on a record of networks whose spectra follow the theory but for noise; `wrong` edits it, `believed` maps
    (r, λ) to those of the theory that the record compares them with."""
    config = settings.load(
        [f"experiment={experiment}", "scale=cpu", "device=cpu", f"results={tmp_path}"]
        + [f"{key}={value}" for key, value in changes.items()]
    )
    _, cells = run.cells_of(config)
    draw, target = np.random.default_rng(0), np.sqrt(COUNTS)
    true = closed(target, cells.block_size, cells.penalty_weight)
    ours = cells
    if believed is not None:
        pairs = [believed(*pair) for pair in cells[["block_size", "penalty_weight"]].to_numpy()]
        ours = cells.assign(block_size=[r for r, _ in pairs], penalty_weight=[w for _, w in pairs])
    form = closed(target, ours.block_size, ours.penalty_weight)
    rivals = run.rival_forms(target, ours)
    noise = draw.normal(size=true.shape)
    noise *= NOISE * np.linalg.norm(true, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    measured = -np.sort(-np.where(true > 0, np.abs(true + noise), 0))
    bare = cells.scheme == "none"
    cells = cells.assign(
        tightness=np.where(bare, 0.7, 0.99), imbalance=np.where(bare, 0.4, 0.02), data_fit=np.where(bare, 1e-4, 0.5),
        deterministic=0.5, forward=np.where(bare, np.nan, 0.501), forward_error=0.001, resolution=0.0,
    )  # fmt: skip
    if not config.model.embedding:
        apportioned = run.apportioned_forms(target, cells)
        cells["resolution"] = np.linalg.norm(apportioned - form, axis=1) / np.linalg.norm(form, axis=1)
    curves = cells[["cell"]].assign(step=1, deterministic=0.5, monte_carlo=0.501, standard_error=0.001)
    arrays = {"target": target, "closed_form": form, "rivals": rivals, "singular_values": measured}
    wrong(cells, curves, arrays, rivals)
    record = Run(config).write(Result(cells, curves, arrays), {})
    judged = [verdicts.judge(claim, record, experiment="e", command="c") for claim in last_layer_dropout.CLAIMS]
    return {verdict.claim.id: verdict.decision for verdict in judged if verdict is not None}


def closed(target, sizes, weights):
    values = torch.from_numpy(target)
    pairs = zip(sizes, weights, strict=True)
    return np.stack([theory.shrink_singular_values(values, int(r), float(w)).numpy() for r, w in pairs])


def failing(found):
    return {claim for claim, decision in found.items() if decision == "fails"}


def test_the_theory_holds_where_it_can_be_decided(tmp_path):
    embedding = decisions(tmp_path)
    assert set(embedding.values()) == {"holds"}
    pooled = decisions(tmp_path, "last_layer_dropout")
    undecided = {claim for claim, decision in pooled.items() if decision == "not measured"}
    assert undecided == {"weight_within_a_tenth"}  # whole units cost more than a tenth of the weight makes
    assert not failing(pooled)
    abrupt = decisions(tmp_path, "last_layer_abrupt", dead_direction)
    assert set(abrupt) == {"stochastic_is_deterministic", "masks_in_the_forward_pass", "directions_die"}
    assert not failing(abrupt)
    assert set(embedding) | set(pooled) | set(abrupt) == {claim.id for claim in last_layer_dropout.CLAIMS}


# ---------------------------------------------------------------------- networks that follow another theory


def rival(name):
    def follow(cells, curves, arrays, rivals):
        """Every network's spectrum is the rival's, where the two can be told apart."""
        chosen = rivals[:, RIVALS.index(name)]
        arrays["singular_values"][:] = chosen

    follow.__name__ = name
    return follow


def dead_direction(cells, curves, arrays, rivals):
    values = arrays["singular_values"]
    last = (arrays["closed_form"] > 0.06 * arrays["target"][0]).sum(1) - 1
    values[np.arange(len(values)), last] = 0
    values[:] = -np.sort(-values)


def other_objective(cells, curves, arrays, rivals):
    curves["monte_carlo"] = cells["forward"] = 0.55


def blunt_measurement(cells, curves, arrays, rivals):
    other_objective(cells, curves, arrays, rivals)
    curves["standard_error"] = cells["forward_error"] = 0.05


def one_large_block(cells, curves, arrays, rivals):
    cells["imbalance"] = 0.4


def untrained(cells, curves, arrays, rivals):
    cells["data_fit"] = 0.3


def shuffled_units(size, width=32):
    """Tightness and imbalance of the best possible network, once its units have changed places among the blocks."""
    target = np.sqrt(COUNTS)
    units = np.zeros(width)  # whose class each unit serves: class c in k_c different blocks
    odds = 9.0
    counts = theory.apportioned_spectrum(torch.from_numpy(target), size, width, odds).numpy()
    shares = np.round(odds * counts / (target - counts)).astype(int)
    units = np.repeat(np.arange(10), shares)  # dealt out: those of one class in different blocks
    blocks = width // size
    order = np.concatenate([np.arange(block, len(units), blocks) for block in range(blocks)])
    heights = np.sqrt((counts / np.maximum(shares, 1))[units])
    U, G = np.zeros((10, width)), np.zeros((width, 10))
    U[units[order], np.arange(width)], G[np.arange(width), units[order]] = heights[order], heights[order]

    def balance(places):
        u, g = (torch.from_numpy(x) for x in (U[:, places], G[places]))
        return measurement.balance(measurement.Seen(Problem(g @ g.T, u, 1.0), u, 1.0), size)

    return balance(np.arange(width)), balance(np.random.default_rng(1).permutation(width))


def shuffled_blocks(cells, curves, arrays, rivals):
    _, shuffled = shuffled_units(8)
    cells["tightness"], cells["imbalance"] = shuffled["tightness"], shuffled["imbalance"]


CONTROLS = [
    ("last_layer_embedding", rival("r = 1"), {"nearest_norm", "half_of_rivals", "predictions_follow_closed_form"}),
    ("last_layer_embedding", rival("r = 4"), {"nearest_norm", "half_of_rivals", "predictions_follow_closed_form"}),
    ("last_layer_embedding", rival("r = 8"), {"nearest_norm", "half_of_rivals"}),
    ("last_layer_embedding", rival("Frobenius"), {"nearest_norm", "half_of_rivals"}),
    ("last_layer_embedding", rival("Frobenius at λ"), {"nearest_norm", "half_of_rivals"}),
    ("last_layer_embedding", rival("nuclear at λ"), {"nearest_norm", "half_of_rivals"}),
    ("last_layer_embedding", rival("no dropout"), {"nearest_norm", "shrinkage_order", "one_after_another"}),
    ("last_layer_embedding", rival("weight × 0.9"), {"nearest_norm", "weight_within_a_tenth"}),
    ("last_layer_embedding", rival("weight × 1.1"), {"nearest_norm", "weight_within_a_tenth"}),
    ("last_layer_dropout", rival("r = 1"), {"nearest_norm", "half_of_rivals"}),
    ("last_layer_dropout", rival("r = 4"), {"nearest_norm", "half_of_rivals", "predictions_follow_closed_form"}),
    ("last_layer_dropout", rival("Frobenius"), {"nearest_norm", "half_of_rivals"}),
    ("last_layer_dropout", rival("Frobenius at λ"), {"nearest_norm", "half_of_rivals"}),
    ("last_layer_dropout", rival("no dropout"), {"nearest_norm", "half_of_rivals", "predictions_follow_closed_form"}),
    ("last_layer_dropout", shuffled_blocks, {"assumption_is_tight"}),
    ("last_layer_embedding", dead_direction, {"directions_live"}),
    ("last_layer_abrupt", nothing, {"directions_die"}),
    ("last_layer_dropout", other_objective, {"stochastic_is_deterministic", "masks_in_the_forward_pass"}),
    ("last_layer_dropout", blunt_measurement, {"stochastic_is_deterministic", "masks_in_the_forward_pass"}),
    ("last_layer_dropout", one_large_block, {"balanced_blocks"}),
    ("last_layer_dropout", untrained, {"network_learns"}),
]


@pytest.mark.parametrize(
    ("experiment", "wrong", "expected"), CONTROLS, ids=[f"{e}-{w.__name__}" for e, w, _ in CONTROLS]
)
def test_networks_that_follow_another_theory_fail(experiment, wrong, expected, tmp_path):
    assert failing(decisions(tmp_path, experiment, wrong)) >= expected


def test_every_claim_has_a_control():
    assert {claim for *_, expected in CONTROLS for claim in expected} == {c.id for c in last_layer_dropout.CLAIMS}


def test_units_in_other_blocks_miss_the_bound():
    whole, shuffled = shuffled_units(8)
    assert whole["tightness"] > 0.99
    assert shuffled["tightness"] < 0.9


# ---------------------------------------------------------------------- records compared with another theory

THEORIES = {
    "block size 8 for all": lambda r, weight: (8, weight / r * 8),
    "block size 1 for all": lambda r, weight: (1, weight / r),
    "block size doubled": lambda r, weight: (2 * r, 2 * weight),
    "Frobenius": lambda r, weight: (10, weight),
    "Frobenius, one block": lambda r, weight: (10, weight / r * 32),
    "weight × .9": lambda r, weight: (r, 0.9 * weight),
    "weight × 1.1": lambda r, weight: (r, 1.1 * weight),
    "no dropout": lambda r, weight: (r, 0.0),
    "the nuclear norm": lambda r, weight: (1, weight),
}
# r = 1 and r = 2 have one closed form from θ = .1 on: a doubled block size shows in r = 8 alone, cut at d/2 blocks


@pytest.mark.parametrize("name", THEORIES)
def test_networks_of_the_theory_refute_every_other(name, tmp_path):
    found = failing(decisions(tmp_path, believed=THEORIES[name]))
    assert found & {"nearest_norm", "half_of_rivals", "weight_within_a_tenth", "predictions_follow_closed_form"}


def test_the_precision_is_a_third_of_the_least_weight_error():
    """The number that fixes every tolerance comes from closed forms alone."""
    target, least = np.sqrt(COUNTS), np.inf
    for r in (1, 8):
        for retain in (0.1, 0.2, 0.3):
            weight = r / 32 * (1 - retain) / retain
            own, low, high = closed(target, [r] * 3, [weight, 0.9 * weight, 1.1 * weight])
            least = min(least, *(np.linalg.norm(form - own) / np.linalg.norm(own) for form in (low, high)))
    assert 3 * PRECISION <= least < 3.2 * PRECISION
