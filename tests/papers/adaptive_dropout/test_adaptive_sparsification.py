"""The experiment on networks: a run of seconds, its claims on made-up records, and what it refuses."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from repro.papers.adaptive_dropout.adaptive_sparsification import TITLES, run
from repro.pipeline import settings
from repro.pipeline.execution.making import compute
from repro.pipeline.experiment import Experiment
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings.config import module_of
from repro.pipeline.store import Record, Run
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.training.adaptive.methods import EtaTrick
from repro.training.adaptive.network import initial

NAME = "adaptive_sparsification"
SMALL = [
    f"experiment={NAME}", "scale=smoke", "device=cpu", "threads=1", "tracking.mode=disabled", "seed=[0,1]",
    "data.subset=300", "model.hidden=[20,10]", "training.batch_size=50",
]  # fmt: skip
CLAIMS = {claim.id: claim for claim in Experiment(module_of(NAME)).claims}


def ran(folder, *overrides):
    config = settings.load([*SMALL, *overrides, f"results={folder}", "force=true"])
    return Run(config, "the command").write(compute(config, Progress("", quiet=True)), {})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return ran(tmp_path_factory.mktemp(NAME))


# What networks at cpu scale give, by method: share left, error pruned and as trained, share left after one epoch.
HONEST = {
    "plain": (1.0, 0.056, 0.056, 1.0),
    "log_sum": (0.137, 0.066, 0.066, 0.99),
    "ada_tikhonov": (0.139, 0.067, 0.066, 0.99),
    "ada_prox": (0.08, 0.064, 0.064, 0.7),
    "eta_trick": (0.99, 0.073, 0.073, 1.0),
    "dropout": (0.999, 0.055, 0.055, 1.0),
    "var_drop": (0.9, 0.063, 0.063, 1.0),
    "var_drop_lr": (0.24, 0.05, 0.05, 1.0),
    "var_drop_lr_ar": (0.13, 0.05, 0.05, 0.24),
    "magnitude": (0.137, 0.053, 0.053, 0.137),
    "random": (0.137, 0.075, 0.075, 0.137),
}


@pytest.fixture
def record_with(small):
    def make(**changed):
        cells, curves = [], []
        for number, (method, (left, pruned, error, first)) in enumerate((HONEST | changed).items()):
            for seed in (0, 1):
                cell = 2 * number + seed
                shared = {"cell": cell, "method": method, "factor": 1.0, "seed": seed}
                cells.append(shared | {"left": left, "pruned_error": pruned, "error": error, "diverged": False})
                floor = {"above_floor": 0.02 if method == "eta_trick" else math.nan}
                curves += [shared | floor | {"step": step, "left": (1.0, first, left)[step]} for step in range(3)]
        made = Record(small.path)
        config = small.config | {"scale": "cpu"}
        made.__dict__.update(config=config, cells=pd.DataFrame(cells), curves=pd.DataFrame(curves))
        return made

    return make


def decisions(record):
    found = [verdicts.judge(claim, record, experiment=NAME, command="") for claim in CLAIMS.values()]
    return {verdict.claim.id: verdict.decision for verdict in found}


def test_claims_on_an_honest_record(record_with):
    found = decisions(record_with())
    assert {claim for claim, decision in found.items() if decision != "holds"} == {"masks_sparsify"}
    assert decisions(record_with(dropout=(0.15, 0.06, 0.06, 0.9)))["masks_sparsify"] == "holds"  # it could


CONTROLS = [
    ({"ada_tikhonov": (0.139, 0.071, 0.071, 0.99)}, "tikhonov_is_log_sum_error"),
    ({"ada_tikhonov": (0.15, 0.067, 0.066, 0.99)}, "tikhonov_is_log_sum_share"),
    ({"log_sum": (0.9, 0.066, 0.066, 1.0)}, "log_sum_sparsifies"),
    ({"ada_prox": (0.08, 0.9, 0.064, 0.7)}, "pruned_as_trained"),
    ({"random": (0.137, 0.06, 0.06, 0.137)}, "random_masks_are_worse"),
    ({"var_drop_lr_ar": (0.13, 0.09, 0.09, 0.24)}, "variational_error"),
    ({"var_drop_lr_ar": (0.5, 0.05, 0.05, 0.24)}, "variational_share"),
    ({"var_drop_lr_ar": (0.13, 0.05, 0.05, 0.9)}, "additive_at_once"),
    ({}, "masks_sparsify"),
    ({"log_sum": (math.nan,) * 4}, "tikhonov_is_log_sum_error"),
]


@pytest.mark.parametrize(("changed", "claim"), CONTROLS, ids=[claim for _, claim in CONTROLS])
def test_a_wrong_record_fails(record_with, changed, claim):
    assert decisions(record_with(**changed))[claim] == "fails"


def test_the_eta_trick_has_its_floor_with_the_right_dual_alone(small, tmp_path, monkeypatch):
    assert decisions(small)["eta_trick_has_its_floor"] == "holds"

    def authors(self):
        """Theirs: a term of the wrong sign, unbounded below."""
        return sum((self.weight.double() / 2 * rho.double()).sum((1, 2)) for rho in self.logs) * -1e3

    monkeypatch.setattr(EtaTrick, "penalty", authors)
    assert decisions(ran(tmp_path, "options.methods=[plain,log_sum,eta_trick]"))["eta_trick_has_its_floor"] == "fails"


def test_every_claim_has_a_control():
    assert {claim for _, claim in CONTROLS} | {"eta_trick_has_its_floor"} == set(CLAIMS)


def test_what_was_not_trained_is_not_measured(small, tmp_path):
    some = ran(tmp_path, "options.methods=ada_prox", "options.controls=false", "options.grid=1")
    made = Record(some.path)
    made.__dict__["config"] = some.config | {"scale": "cpu"}
    assert set(decisions(made).values()) == {"not measured"}
    assert len(some.cells) == 2


# ---------------------------------------------------------------------- the run


def test_a_run_has_every_method_and_its_controls(small):
    cells, curves = small.cells, small.curves
    assert set(cells.method) == set(TITLES)
    assert len(cells[cells.factor == 1]) == 2 * len(TITLES)
    share = cells[cells.factor == 1].pivot_table(index="seed", columns="method", values="left")
    # masks keep a whole number of weights, in every network that of LogSum's share
    np.testing.assert_allclose(share.magnitude, share.log_sum, atol=1e-3)
    np.testing.assert_allclose(share.random, share.magnitude, atol=1e-12)
    assert curves.groupby("cell").step.max().isin([1, 2]).all()
    assert small.arrays["sizes"].tolist() == [784, 20, 10, 10]


def test_pruning_keeps_the_largest_weights_of_all_layers():
    weights = initial((6, 5, 4), (0, 1), "cpu").weights
    masks = run.by_magnitude(weights, torch.tensor([0.2, 0.6], dtype=torch.float64))
    for i, share in enumerate((0.2, 0.6)):
        kept = torch.cat([w[i][m[i] == 1] for w, m in zip(weights, masks, strict=True)]).abs()
        gone = torch.cat([w[i][m[i] == 0] for w, m in zip(weights, masks, strict=True)]).abs()
        assert len(kept) == round(share * 50)
        assert kept.min() > gone.max()
    random = run.at_random(weights, torch.tensor([0.2, 0.6], dtype=torch.float64), (0, 1))
    for one, other in zip(random, masks, strict=True):
        assert torch.equal(one.sum((1, 2)), other.sum((1, 2)))
        assert not torch.equal(one, other)


def test_threads_leave_the_numbers_the_same(small, tmp_path):
    pd.testing.assert_frame_equal(ran(tmp_path, "threads=2").curves, small.curves)


def test_the_authors_protocol_is_a_command():
    config = settings.load([f"experiment={NAME}", "scale=gpu", "device=cpu", "data=mnist", "data.subset=48000"])
    assert (config.training.epochs, config.training.batch_size) == (200, 128)
    rates = config.training.rates
    assert {rates.var_drop_lr_ar, rates.log_sum, rates.ada_prox, rates.ada_tikhonov} == {1e-4}
    assert {rates.var_drop_lr, rates.var_drop, rates.eta_trick} == {1e-3}
    assert config.training.log_rates.eta_trick == rates.eta_trick
    assert (config.training.weight, config.training.epsilon, config.training.zero) == (1e-3, 2.0, 0.05)
    assert config.model.hidden == (300, 100)
    assert len(config.seed) >= 3


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("training.weight=0", "training.weight=0: must be greater than 0"),
        ("training.weight=-1e-3", "training.weight=-0.001: must be greater than 0"),
        ("training.epsilon=0", "training.epsilon=0: must be greater than 0"),
        ("training.zero=1", "training.zero=1: must lie in (0, 1)"),
        ("options.methods=[log_sum]", "options.controls=true: needs plain among options.methods"),
        ("options.methods=[plain,log_sum,plain]", 'options.methods=["plain","log_sum","plain"]: names plain twice'),
        ("options.methods=[lasso]", "options.methods=lasso: must be one of plain, log_sum, ada_tikhonov"),
        ("options.grid=[0]", "options.grid=0: must be greater than 0"),
        ("data.flip=true", "data.flip=true: has no effect here, images are taken as they are"),
        ("data.targets=centred", "data.targets=centred: has no effect here, what is minimised is the cross-entropy"),
        ("model.hidden=[]", "model.hidden=[]: must have 1 or more values"),
        ("model=resnet8", "model.kind=resnet8: adaptive_sparsification takes model=lenet_300_100"),
        ("dropout=gaussian", "dropout=gaussian: has no effect here, how much is dropped follows from the weights"),
    ],
)
def test_mistakes_are_told_before_anything_runs(typed, message, told):
    assert told(f"experiment={NAME}", typed, "scale=cpu", "device=cpu").startswith(message)


def test_batches_larger_than_the_images_are_told(tmp_path):
    with pytest.raises(UserError, match=r"training.batch_size=400: must be at most 300, the images"):
        ran(tmp_path, "training.batch_size=400")
