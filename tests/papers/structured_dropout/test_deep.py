"""The deep experiments at a size that takes seconds: their tables, their figures, and what they refuse."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from repro.data.images import load as load_images
from repro.papers.structured_dropout import last_layer_dropout, networks
from repro.papers.structured_dropout.last_layer_dropout.rivals import RIVALS
from repro.papers.structured_dropout.last_layer_dropout.run import cells_of, closed_forms
from repro.pipeline import plotting, settings
from repro.pipeline.claims import NotMeasured
from repro.pipeline.execution import runner
from repro.pipeline.experiment import Experiment
from repro.pipeline.store import Run
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress

BOTH = "dropout.block_size=[1,8]"
QUICK = ["scale=smoke", "tracking.mode=disabled", "training.epochs=2", "training.learning_rate=0.1"]


def config(name, *overrides):
    return settings.load([f"experiment={name}", *QUICK, *overrides])


def executed(config):
    return runner.execute(Run(config), quiet=True).record


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    return executed(config("last_layer_dropout", BOTH, f"results={results}"))


def test_the_table_has_measurement_and_theory(record):
    cells = record.cells
    assert cells.scheme.tolist() == ["none", "dropblock", "dropblock"]
    assert (cells.p == 1 / (1 + cells.penalty_weight)).all()
    dropped = cells[cells.scheme != "none"]
    odds = (1 - dropped.retain) / dropped.retain
    assert np.allclose(dropped.penalty_weight, dropped.block_size / dropped.width * odds)
    assert cells.closed_form[0] == pytest.approx(0, abs=1e-12)
    assert (dropped.deterministic > dropped.closed_form).all()
    # each network's rivals have the other's closed form, and its own at no distance
    form, rivals = record.arrays["closed_form"], record.arrays["rivals"]
    assert rivals.shape == (3, len(RIVALS), 10)
    for cell, other in ((1, 2), (2, 1)):
        for row in (cell, other):
            assert np.allclose(rivals[cell, RIVALS.index(f"r = {cells.block_size[row]}")], form[row])
        assert np.linalg.norm(form[1] - form[2]) > 0.2 * np.linalg.norm(form[cell])  # unequal classes tell them apart


def test_masks_through_the_forward_pass_cost_what_the_objective_says(record):
    cells = record.cells[record.cells.scheme != "none"]
    assert ((cells.forward - cells.deterministic).abs() <= 3 * cells.forward_error).all()
    assert (cells.forward_error < 0.05 * cells.deterministic).all()
    assert ((cells.forward - cells.data_fit).abs() > 10 * cells.forward_error).all()  # control


def test_equal_classes_shrink_alike_under_every_block_size():
    balanced = config("last_layer_dropout", "data.imbalance=1", "dropout.retain=0.5")
    _, table = cells_of(balanced)
    form = closed_forms(load_images(balanced.data), table)[1]["singular_values"]
    assert np.allclose(form[1:], form[1])  # which is why the experiment has unequal ones


def test_networks_of_several_lengths(tmp_path):
    textbook = config("last_layer_textbook", "training.epochs=4", "dropout.block_size=8", f"results={tmp_path}")
    done = executed(textbook)
    assert done.cells.epochs.tolist() == [4, 2, 1]
    assert done.curves.groupby("cell").step.max().tolist() == [4, 2, 1]
    assert textbook.cells == 3
    assert {"price", "rivals"} <= {p.stem for p in done.figures.glob("*.pdf")}


def test_monte_carlo_is_the_deterministic_objective_at_every_epoch(record):
    rows = record.curves.dropna(subset="monte_carlo")
    assert len(rows) == 2 * 3
    assert ((rows.monte_carlo - rows.deterministic).abs() <= 3 * rows.standard_error).all()
    # negative control: the data fit alone is not
    rows = rows[rows.step > 0]
    assert ((rows.monte_carlo - rows.data_fit).abs() > 3 * rows.standard_error).sum() >= 3


def test_no_checkpoint_is_left(record):
    assert not (record.path.parents[2] / "checkpoints").exists() or not any(
        (record.path.parents[2] / "checkpoints").iterdir()
    )


def test_figures(record):
    assert {p.stem for p in record.figures.glob("*.pdf")} == {"objective", "spectra", "rivals", "assumptions"}


@pytest.mark.parametrize("targets", ["one_hot", "centred"])
def test_the_closed_form_starts_from_the_spectrum_of_the_targets(targets):
    images = load_images(config("last_layer_dropout", f"data.targets={targets}", "data.imbalance=5").data)
    _, table = cells_of(config("last_layer_dropout"))
    target, theory = closed_forms(images, table)
    Y = images.targets[images.train.labels].double()
    assert np.allclose(target, torch.linalg.svdvals(Y).numpy(), atol=1e-6)
    assert np.allclose(theory["singular_values"][0], target)  # without dropout
    if targets == "one_hot":
        counts = torch.bincount(images.train.labels).double().sqrt().sort(descending=True).values
        assert np.allclose(target, counts.numpy())


def test_with_a_bias_the_closed_form_is_that_of_centred_targets():
    images = load_images(config("last_layer_dropout", "data.imbalance=5").data)
    _, table = cells_of(config("last_layer_dropout"))
    centred = load_images(config("last_layer_dropout", "data.targets=centred", "data.imbalance=5").data)
    with_bias, without = closed_forms(images, table, bias=True), closed_forms(centred, table)
    assert np.allclose(with_bias[0], without[0], atol=1e-5)
    assert np.allclose(with_bias[1]["singular_values"], without[1]["singular_values"], atol=1e-5)
    assert not np.allclose(with_bias[0], closed_forms(images, table)[0], atol=0.1)


def test_interrupted_and_started_again(tmp_path, monkeypatch):
    """A run that stops between two networks goes on with the second, and ends with the same record."""
    whole = config("last_layer_dropout", BOTH, f"results={tmp_path / 'whole'}")
    cut = config("last_layer_dropout", BOTH, f"results={tmp_path / 'cut'}")
    expected = executed(whole)
    train, calls = networks._train, []

    def interrupted(job, *arguments):
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(job, *arguments)

    monkeypatch.setattr(networks, "_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        executed(cut)
    assert len(list((tmp_path / "cut" / "checkpoints").glob("*/*.pt"))) == 2
    monkeypatch.setattr(networks, "_train", train)
    told = []
    monkeypatch.setattr(Progress, "log", lambda progress, rows: told.extend(rows))
    resumed = executed(cut)
    assert len(told) == len({(row["cell"], row["step"]) for row in told})  # those of the checkpoints as well, once
    assert {(row["cell"], row["step"]): row["train_loss"] for row in told if row["step"]} == {
        (row.cell, row.step): row.train_loss for row in expected.curves.itertuples() if row.step
    }
    assert resumed.curves.equals(expected.curves)
    assert resumed.cells.equals(expected.cells)
    for name, array in expected.arrays.items():
        assert np.array_equal(resumed.arrays[name], array, equal_nan=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dropout.block_size=5", "dropout.block_size=5: must divide model.width=32"),
        ("training.batch_size=7 training.devices=2", "training.batch_size=7: must be a multiple of"),
        ("training.mask_per=sample training.masks_per_step=8", "training.masks_per_step=8: averages over masks only"),
    ],
)
def test_refused_in_one_line(override, message):
    with pytest.raises(UserError) as error:
        config("last_layer_dropout", *override.split())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("experiment", "scheme", "taken"),
    [
        ("last_layer_dropout", "dropconnect", "bernoulli, dropblock, gaussian, overlapping_dropblock, structured"),
    ],
)
def test_other_noise_is_refused_in_one_line(experiment, scheme, taken):
    with pytest.raises(UserError, match=rf"^dropout\.scheme={scheme}.*: {experiment} takes dropout={taken}$"):
        config(experiment, f"dropout={scheme}")


NOISES = {
    "bernoulli": ["dropout=bernoulli", "dropout.retain=0.5"],
    "gaussian": ["dropout=gaussian", "dropout.retain=0.5"],
    "uncorrelated gaussian": ["dropout=gaussian", "dropout.retain=0.5", "dropout.correlation=0.0"],
    "overlapping": ["dropout=overlapping_dropblock", "dropout.retain=0.5", "dropout.block_size=[4,5]"],
}
KNOWN = {"bernoulli": True, "gaussian": False, "uncorrelated gaussian": True, "overlapping": False}


@pytest.mark.parametrize("noise", NOISES)
def test_any_noise_on_hidden_units(noise, tmp_path):
    """What there is a closed form of is measured against it; of the others the expectation is."""
    record = executed(config("last_layer_dropout", "training.epochs=1", *NOISES[noise], f"results={tmp_path}"))
    dropped = record.cells[record.cells.scheme != "none"]
    assert record.cells.cell.tolist() == [*range(3 if noise == "overlapping" else 2)]
    rows = record.curves.dropna(subset="monte_carlo")
    assert ((rows.monte_carlo - rows.deterministic).abs() <= 3 * rows.standard_error).all()
    assert len(rows) == 2 * len(dropped)
    theory = dropped[["penalty_weight", "closed_form", "closed_form_rank", "gap", "singular_value_error"]]
    assert (theory.notna() if KNOWN[noise] else theory.isna()).all(axis=None)
    assert dropped.p.between(0.8, 1).all()
    claims = {claim.id: claim for claim in last_layer_dropout.CLAIMS}
    assert len(claims["stochastic_is_deterministic"].measure(record)) == 1
    for name in ("nearest_norm", "half_of_rivals", "assumption_is_tight", "balanced_blocks"):
        if KNOWN[noise]:
            assert len(claims[name].measure(record)) == 1
        else:
            with pytest.raises(NotMeasured, match="no closed form for this noise"):
                claims[name].measure(record)
    with plotting.style():
        notes = {make().get_suptitle() for make in Experiment(last_layer_dropout).figures(record).values()}
    assert any("no closed form for" in note for note in notes) == (not KNOWN[noise])


def test_independent_noise_is_dropout():
    """Gaussian noise without correlation has Dropout's closed form; overlapping blocks of one unit are Dropout."""
    grid = ["dropout.scheme=[bernoulli,gaussian,overlapping_dropblock]", "dropout.block_size=1", "dropout.retain=0.5"]
    table = cells_of(config("last_layer_dropout", *grid))[1].iloc[1:]
    assert table.block_size.tolist() == [1, 1, 1]
    assert np.allclose(table.penalty_weight, table.penalty_weight.iloc[0], rtol=1e-12)
    assert len(set(last_layer_dropout.series(table).values())) == 3  # told apart all the same


def test_the_size_of_the_grid_is_known():
    one = config("last_layer_dropout", "seed=[0,1]", "dropout.scheme=[bernoulli,dropblock]", BOTH)
    assert one.cells == len(cells_of(one)[0]) == 2 * (1 + 1 + 2)
    several = config("last_layer_textbook", "seed=[0,1]", "training.epochs=8")
    assert several.cells == len(cells_of(several)[0]) == 2 * 2 * 3


def test_linear_data_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"data\.kind=digit_halves: last_layer_dropout takes data=.*mnist5k"):
        settings.load(["experiment=last_layer_dropout", "data.kind=digit_halves"])


def test_networks_side_by_side_are_those_one_after_another():
    one = config("last_layer_dropout", BOTH, "training.epochs=1", "threads=1")
    images = load_images(one.data)
    masks, _ = cells_of(one)
    jobs = [networks.Job(networks.task(one, images, 0, mask), "cpu", 1, 64, forward_masks=2) for mask in masks[:3]]
    done = []
    jobs = [replace(job, number=n) for n, job in enumerate(jobs)]
    told = []
    beside = networks._side_by_side(jobs, 2, 1, done.append, told.append)
    for n, trained in enumerate(beside):
        rows = [row for number, row in told if number == n]
        assert pd.DataFrame(rows).equals(pd.DataFrame(trained.rows))
    for job, trained in zip(jobs, beside, strict=True):
        alone = networks._train(job, 1, lambda images: None)
        assert pd.DataFrame(trained.rows).equals(pd.DataFrame(alone.rows))
        assert np.array_equal(trained.block_norms, alone.block_norms)
    assert sum(done) == 3 * 300


def test_a_network_that_diverges_is_in_the_table(tmp_path):
    wild = ["training.learning_rate=1e30", "training.clip_norm=null", "options.without=false", "training.epochs=3"]
    record = executed(config("last_layer_dropout", *wild, "dropout.block_size=4", f"results={tmp_path}"))
    assert record.cells.diverged.tolist() == [True]
    assert record.curves.step.tolist() == [0, 1]  # given up after its first epoch
    assert np.isnan(record.arrays["singular_values"]).all()
    curves = pd.DataFrame({"cell": [0, 0, 1], "step": [0, 1, 1], "train_loss": [1, np.inf, 1], "deterministic": 1.0})
    assert networks.final(curves).diverged.tolist() == [True, False]


def test_a_network_that_diverges_between_two_measurements_is_known_to(tmp_path):
    wild = ["training.learning_rate=1e30", "training.clip_norm=null", "options.without=false", "training.epochs=4"]
    record = executed(config("last_layer_dropout", *wild, "options.measurements=1", f"results={tmp_path}"))
    assert record.cells.diverged.tolist() == [True]
    assert np.isnan(record.arrays["singular_values"]).all()
