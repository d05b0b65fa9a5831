"""The experiment on pruned networks: a run of seconds, its claims on made-up records, and what it refuses."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from repro.papers.incremental_regularization.incremental_pruning import figures
from repro.papers.incremental_regularization.incremental_pruning import run as running
from repro.papers.incremental_regularization.incremental_pruning.claims import TITLES
from repro.pipeline import settings
from repro.pipeline.execution.making import compute
from repro.pipeline.experiment import Experiment
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings.config import module_of
from repro.pipeline.store import Record, Run
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.training.pruning import loop

NAME = "incremental_pruning"
SMALL = [
    f"experiment={NAME}", "scale=smoke", "device=cpu", "threads=1", "tracking.mode=disabled", "seed=[0,1]",
    "data.subset=100", "model.channels=[8,8]", "model.hidden=16", "training.batch_size=20", "training.updates=8",
    "training.pruning=5", "options.floor.updates=4",
]  # fmt: skip
CLAIMS = {claim.id: claim for claim in Experiment(module_of(NAME)).claims}


def config_of(folder, *overrides):
    typed = [word.partition("=")[0] for word in overrides]
    kept = [word for word in SMALL if word.partition("=")[0] not in typed]
    return settings.load([*kept, *overrides, f"results={folder}", "force=true"])


def ran(folder, *overrides):
    config = config_of(folder, *overrides)
    return Run(config, "the command").write(compute(config, Progress("", quiet=True)), {})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return ran(tmp_path_factory.mktemp(NAME))


# ---------------------------------------------------------------------- claims

# Accuracies of a record on which every claim holds, by ratio.
ACCURACY = {
    0.5: {"one_shot": 0.970, "inc_reg": 0.971, "greg_1": 0.970},
    0.9: {"one_shot": 0.930, "inc_reg": 0.950, "greg_1": 0.945, "random": 0.91, "largest": 0.90},
}


@pytest.fixture
def record_with(small):
    def make(accuracy=None, **columns):
        cells = []
        for ratio, methods in ACCURACY.items():
            for method, value in methods.items():
                for seed in (0, 1, 2):
                    spread = 1e-4 * ((seed * 7 + len(method) * 3 + round(seed * ratio * 10)) % 5)
                    found = (accuracy or {}).get((ratio, method), value) + spread
                    cells.append({"method": method, "ratio": ratio, "seed": seed, "accuracy": found})
        for seed in (0, 1, 2):
            cells.append({"method": "inc_reg", "ratio": 0.9, "seed": seed, "accuracy": 0.95, "gentleness": 0.15})
            cells.append({"method": "inc_reg", "ratio": np.nan, "seed": seed, "mode": "floor", "floor": 0.95})
        table = pd.DataFrame(cells).assign(cell=range(len(cells)), removed=473.0, target=473.0, cut_difference=1e-6)
        table = table.assign(recovered=1.0, lost=0.02, lost_loss=0.05, validation=0.951, diverged=False)
        table["mode"] = table["mode"].fillna("ratio")
        table["gentleness"] = table.gentleness.fillna(10.0)
        table.loc[table.gentleness < 1, ["lost", "lost_loss"]] = (0.3, 2.0)
        for name, value in columns.items():
            table[name] = value(table) if callable(value) else value
        made = Record(small.path)
        options = small.config["options"] | {"ratios": [0.5, 0.9], "gentleness": [0.15]}
        made.__dict__.update(config=small.config | {"scale": "cpu", "seed": [0, 1, 2], "options": options}, cells=table)
        return made

    return make


def decisions(record):
    found = [verdicts.judge(claim, record, experiment="another", command="") for claim in CLAIMS.values()]
    return {verdict.claim.id: verdict.decision for verdict in found if verdict is not None}


def test_claims_on_an_honest_record(record_with):
    assert set(decisions(record_with()).values()) == {"holds"}


CONTROLS = [
    ({"removed": 472.0}, "groups_removed"),
    ({"cut_difference": 1e-3}, "cut_is_masked"),
    ({"cut_difference": math.nan}, "cut_is_masked"),
    ({"accuracy": {(0.9, "inc_reg"): 0.929}}, "inc_reg_over_one_shot"),
    ({"accuracy": {(0.5, "inc_reg"): 0.99}}, "alike_at_small_ratios"),
    ({"accuracy": {(0.9, "inc_reg"): 0.93}}, "gap_grows"),
    ({"accuracy": {(0.9, "greg_1"): 0.92}}, "greg_1_over_one_shot"),
    ({"accuracy": {(0.9, "random"): 0.935}}, "random_is_worse"),
    ({"accuracy": {(0.9, "largest"): 0.94}}, "largest_is_worse"),
    ({"recovered": 0.0}, "groups_recover"),
    ({"lost": 0.3}, "gentle_removal"),
    ({"lost_loss": 0.05}, "abrupt_removal"),
    ({"validation": 0.94}, "floor_holds"),
]


@pytest.mark.parametrize(("changed", "claim"), CONTROLS, ids=[claim for _, claim in CONTROLS])
def test_a_wrong_record_fails(record_with, changed, claim):
    assert decisions(record_with(**changed))[claim] == "fails"


def test_every_claim_has_a_control():
    assert {claim for _, claim in CONTROLS} == set(CLAIMS)


def test_what_was_not_trained_is_not_measured_or_no_claim(tmp_path):
    some = ran(
        tmp_path, "options.methods=afp", "options.controls=[]", "options.gentleness=[]", "options.floor=null",
        "seed=0",
    )  # fmt: skip
    made = Record(some.path)
    made.__dict__["config"] = some.config | {"scale": "cpu"}
    found = {claim: decision for claim, decision in decisions(made).items() if decision in ("holds", "fails")}
    assert found == {"groups_removed": "holds", "cut_is_masked": "holds"}


# ---------------------------------------------------------------------- the run


def test_a_run_has_every_method_and_cuts_every_network(small):
    cells = small.cells
    assert set(cells.method) == set(TITLES)
    assert len(cells) == 2 * (6 + 2 + 2 + 1)
    assert (cells.cut_difference < 1e-4).all()
    ratio = cells[cells["mode"] == "ratio"]
    assert (ratio.removed == ratio.target).all()
    assert set(ratio.target) == {23 + 180}
    assert ratio.groupby("seed").baseline.nunique().eq(1).all()
    names, whole = small.arrays["layers"].tolist(), small.arrays["macs"].tolist()
    assert names == ["conv1", "conv2"]
    assert whole == [8 * 25 * 576, 8 * 200 * 64]
    left = small.arrays["left"][ratio.cell]
    assert (left == [2, 20]).all()
    # a column leaves MACs in proportion, and less where a filter goes that nothing needs
    assert (small.arrays["macs_left"][ratio.cell] <= np.array(whole) * left / [25, 200] + 1e-6).all()
    assert ratio.speed_up.to_numpy() == pytest.approx(sum(whole) / small.arrays["macs_left"][ratio.cell].sum(1))


def test_one_row_a_step_and_cell(small):
    assert not small.curves.duplicated(["cell", "step"]).any()


def test_every_figure_can_be_drawn(small):
    assert set(figures.figures(small)) == set(Experiment(module_of(NAME)).captions)
    for draw in figures.figures(small).values():
        draw()


def test_threads_leave_the_numbers_the_same(small, tmp_path):
    other = ran(tmp_path, "threads=2")
    pd.testing.assert_frame_equal(other.cells, small.cells)
    pd.testing.assert_frame_equal(other.curves, small.curves)


@pytest.mark.parametrize("updates", [3, 12, 60, 150])
def test_a_killed_run_goes_on_with_the_same_numbers(small, tmp_path, monkeypatch, updates):
    config = config_of(tmp_path, "training.checkpoint=2")

    class Killed(Exception):
        pass

    done = 0
    step = loop._add_penalties

    def dying(pruning):
        nonlocal done
        done += 1
        if done == updates:
            raise Killed
        step(pruning)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_add_penalties", dying)
        with pytest.raises(Killed):
            compute(config, Progress("", quiet=True))
    assert [*Run(config).checkpoints.glob("*.pt")] or updates == 3
    again = compute(config, Progress("", quiet=True))
    pd.testing.assert_frame_equal(again.cells, small.cells)
    pd.testing.assert_frame_equal(again.curves, small.curves)
    for name, array in again.arrays.items():
        np.testing.assert_array_equal(array, small.arrays[name])


@pytest.mark.parametrize(
    ("model", "groups", "layers"),
    [("convnet", "filter", 3), ("resnet8", "filter", 3), ("resnet8", "column", 9)],
)
def test_other_networks_by_override(tmp_path, model, groups, layers):
    sizes = {"convnet": ["model.channels=[8,8,8]"], "resnet8": ["model.channels=8", "model.stem_stride=2"]}[model]
    config = settings.load(
        [
            f"experiment={NAME}", "scale=smoke", "device=cpu", "threads=1", "tracking.mode=disabled", "data.subset=60",
            f"model={model}", *sizes, f"training.groups={groups}", "training.batch_size=20", "training.updates=4",
            "training.pruning=2", "options.methods=[one_shot,inc_reg]", "options.controls=[]", "options.gentleness=[]",
            "options.floor=null", "options.ratios=[0.3]", "options.reference=0.3", f"results={tmp_path}",
        ]
    )  # fmt: skip
    result = compute(config, Progress("", quiet=True))
    assert (result.cells.cut_difference < 1e-4).all()
    assert len(result.arrays["layers"]) == layers
    assert (result.cells.speed_up > 1).all()


def test_resnets_on_cifar10_are_an_override():
    config = settings.load(
        [
            f"experiment={NAME}",
            "scale=gpu",
            "device=cpu",
            "data=cifar10",
            "model=resnet56",
            "training.channels_last=true",
        ]
    )
    assert (config.model.kind, config.data.kind) == ("resnet56", "cifar10")
    assert config.options.ratios == (0.5, 0.7, 0.9, 0.95)


def test_a_diverged_baseline_leaves_a_record(tmp_path):
    record = ran(tmp_path, "training.learning_rate=1e9", "seed=0", "options.floor=null")
    assert record.cells.diverged.all()
    assert record.cells.accuracy.isna().all()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("training.pruning=90", "training.pruning=90: must be below training.updates=90"),
        ("training.first_removal=80", "training.first_removal=80: must be at most training.pruning=60"),
        ("training.groups=row", "training.groups=row: must be one of column, filter"),
        ("training.gentleness=0", "training.gentleness=0: must be greater than 0"),
        ("training.validation=1", "training.validation=1: must lie in (0, 1)"),
        ("options.reference=0.7", "options.reference=0.7: must be one of options.ratios=[0.5,0.9,0.95]"),
        ("options.ratios=[0.9,1]", "options.ratios=1: must lie in (0, 1)"),
        ("options.methods=[l1]", "options.methods=l1: must be one of one_shot, afp"),
        ("options.floor.margin=0", "options.floor.margin=0: must lie in (0, 1)"),
        ("model=linear", "model.kind=linear: incremental_pruning takes model=convnet, lenet5, resnet"),
        ("model.channels=[4,8]", "model.channels=[4,8]: must be at least 8 each, or training.channels_last=false"),
        ("data=synthetic", "data.kind=synthetic: incremental_pruning takes data="),
        ("dropout=gaussian", "dropout=gaussian: has no effect here, penalties prune"),
        ("data.targets=centred", "data.targets=centred: has no effect here, what is minimised is the cross-entropy"),
    ],
)
def test_mistakes_are_told_before_anything_runs(typed, message, told):
    assert told(f"experiment={NAME}", typed, "scale=cpu", "device=cpu").startswith(message)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("training.batch_size=400", "training.batch_size=400: must be at most 90, the training images"),
        ("options.ratios=[0.9,0.97]", "options.ratios=0.97: removes all 25 columns of conv1; must be at most 0.96"),
    ],
)
def test_mistakes_that_need_the_data_are_told_before_anything_trains(tmp_path, monkeypatch, typed, message):
    monkeypatch.setattr(running, "fit", None)
    with pytest.raises(UserError) as caught:
        ran(tmp_path, typed)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_smallest_ratio_removes_one_group_of_every_layer(tmp_path):
    record = ran(tmp_path, "options.ratios=1e-6", "options.reference=1e-6", "seed=0", "options.floor=null")
    assert (record.cells.removed == 2).all()
    assert torch.get_num_threads() >= 1
