"""The network experiments at a size of seconds: what they record, and their claims on records that are made up."""

import numpy as np
import pandas as pd
import pytest

from repro.papers.variational_structured_dropout import networks
from repro.pipeline import plotting, settings
from repro.pipeline.execution.making import compute
from repro.pipeline.experiment import Experiment
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings.config import module_of
from repro.pipeline.store import Result, Run
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.training.variational import loop

SMALL = {
    "variational_regression": ["data.table=diabetes", "model.hidden=[8]", "training.steps=20"],
    "variational_classification": ["data.subset=200", "model.hidden=[8]", "training.steps=12"],
}
EXPERIMENTS = list(SMALL)


def config_of(experiment, folder, *more):
    scale = [] if any(text.startswith("scale=") for text in more) else ["scale=smoke"]
    typed = [f"experiment={experiment}", *scale, "device=cpu", "tracking.mode=disabled", f"results={folder}"]
    return settings.load([*typed, "options.reflections=[1,2]", *SMALL[experiment], *more])


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    def record(experiment):
        config = config_of(experiment, tmp_path_factory.mktemp("results"))
        return Run(config, "the command").write(compute(config, Progress("", quiet=True)), {})

    return {experiment: record(experiment) for experiment in EXPERIMENTS}


def test_every_method_is_there_with_every_seed(records):
    arms = {
        "MAP",
        "dropout 0.1",
        "mean field",
        "VD",
        "VD-EB",
        "VSD 1",
        "VSD 2",
        "VSD 2 frozen",
        "VSD 2 tied",
        "ensemble",
    }
    for record in records.values():
        cells = record.cells
        assert set(cells.arm) == arms
        assert (cells.groupby(["problem", "arm"]).seed.nunique() == 2).all()
        assert not cells.diverged.any()
        with_elbo = cells[cells.elbo.notna()].arm.unique()
        assert set(with_elbo) == arms - {"MAP", "dropout 0.1", "VD", "ensemble"}
    images = records["variational_classification"].cells
    assert set(images.problem) == {"all classes", "half of the classes"}
    assert images[["error", "ece", "auroc", "auroc_control"]].stack().between(0, 1).all()
    assert images[images.arm == "MAP"].auroc_information.eq(0.5).all()  # one draw says nothing of itself
    assert set(images[images.alignment.notna()].arm) == {"VSD 1", "VSD 2", "VSD 2 frozen"}
    curves = records["variational_classification"].table("curves")
    assert (curves.filter(regex="^stable_rank") >= 1 - 1e-6).all(axis=None)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_figures(records, experiment):
    module = Experiment(module_of(experiment))
    figures = module.figures(records[experiment])
    assert set(figures) == set(module.captions)
    with plotting.style():
        for draw in figures.values():
            draw().draw_without_rendering()


def test_the_number_of_threads_changes_no_bit(records, tmp_path):
    two = compute(config_of("variational_regression", tmp_path, "threads=2"), Progress("", quiet=True))
    pd.testing.assert_frame_equal(two.cells, records["variational_regression"].cells, check_exact=True)


def test_all_methods_start_alike_and_have_the_same_batches_and_random_numbers(tmp_path, monkeypatch):
    started, seeds = [], []

    def watch(network, inputs, targets, loss, settings, order, noise, measure, extra):
        started.append(network.linear[0].weight.detach().clone())
        seeds.append((order.initial_seed(), noise.initial_seed()))
        return right(network, inputs, targets, loss, settings, order, noise, measure, extra)

    right = loop.train
    monkeypatch.setattr(networks.loop, "train", watch)
    compute(config_of("variational_regression", tmp_path, "training.steps=2"), Progress("", quiet=True))
    weights = [w for w in started if len(w) == 2]  # the ensemble has more
    assert len(weights) == 9
    assert all(np.array_equal(weights[0], w) for w in weights)
    assert len(set(seeds)) == 1


def test_the_rate_that_the_validation_rows_prefer_is_chosen():
    arms = ["MAP", "dropout 0.1", "dropout 0.2"]
    cells = pd.DataFrame({"problem": "p", "arm": 2 * arms, "seed": [0] * 3 + [1] * 3, "v": [0, 1, 3, 0, 2, 1]})
    assert networks.choose(cells, "v").chosen.tolist() == [True, False, True] * 2


# ---------------------------------------------------------------------- claims, on made-up records


def made_up(experiment, sign, folder):
    """VSD is better than the others by about `sign` in whatever is good."""
    rows = []
    for seed in range(3):
        for arm in ("MAP", "dropout 0.1", "VD-EB", "VSD 1", "VSD 2"):
            good = sign * (1 + 0.1 * seed) * (arm == "VSD 2")
            rows.append({"arm": arm, "seed": seed, "problem": "p", "chosen": True, "diverged": False})
            rows[-1] |= {name: good for name in ("elbo", "log_likelihood", "auroc")}
            rows[-1] |= {name: -good for name in ("nll", "ece", "spectral_norm_1", "stable_rank_1")}
            rows[-1] |= {"alignment": -sign * (0.5 + 0.1 * seed), "auroc_control": 0.5 if sign > 0 else 0.8, "step": 5}
    cells = pd.DataFrame(rows).rename_axis("cell").reset_index()
    shown = ["cell", "step", "spectral_norm_1", "stable_rank_1"]
    result = Result(cells.drop(columns=shown[1:]), cells[shown])
    return Run(config_of(experiment, folder, "scale=cpu", "seed=[0,1,2]"), "the command").write(result, {})


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize(("sign", "expected"), [(1, "holds"), (-1, "fails")])
def test_claims_tell_better_from_worse(experiment, sign, expected, tmp_path):
    record = made_up(experiment, sign, tmp_path)
    for claim in Experiment(module_of(experiment)).claims:
        found = verdicts.judge(claim, record, experiment=experiment, command="")
        assert found.decision == expected, claim.id


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("variational_regression data.table=nowhere", "data.table=nowhere: must be one of"),
        ("variational_regression dropout=bernoulli", "dropout.scheme=bernoulli: variational_regression takes dropout="),
        ("variational_regression dropout.retain=[0.5,0.9]", "dropout.retain: must be one number"),
        ("variational_regression dropout.spread=3.0", "dropout.spread=3.0: has no effect here, rates and rotation are"),
        ("variational_classification model=linear", "model.kind=linear: variational_classification takes model=mlp"),
        ("variational_classification training.prior=hierarchical", "training.prior=hierarchical: infinite with"),
        ("variational_classification data=tables", "data.kind=tables: variational_classification takes data="),
        ("variational_classification data.flip=true", "data.flip=true: has no effect here, images are taken as"),
    ],
)
def test_mistakes_are_one_line(typed, message):
    with pytest.raises(UserError, match=f"^{message}"):
        settings.load([f"experiment={typed.split()[0]}", typed.split()[1], "scale=smoke"])
