"""The deep experiments at a size that takes seconds: their tables, their figures, and what they refuse."""

import numpy as np
import pytest
import torch

from repro import composition, runner
from repro.data.images import load as load_images
from repro.errors import UserError
from repro.experiments import deep, dropblock_approximation, last_layer_dropout

QUICK = ["scale=smoke", "tracking.mode=disabled", "training.epochs=2", "training.learning_rate=0.1"]


def config(name, *overrides):
    return composition.load([f"experiment={name}", *QUICK, *overrides])


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    return runner.execute(config("last_layer_dropout", f"results={results}"), "", quiet=True).record


def test_the_table_has_measurement_and_theory(record):
    cells = record.cells
    assert cells.scheme.tolist() == ["none", "dropblock", "dropblock", "dropblock"]
    assert (cells.p == 1 / (1 + cells.penalty_weight)).all()
    dropped = cells[cells.scheme != "none"]
    odds = (1 - dropped.retain) / dropped.retain
    assert np.allclose(dropped.penalty_weight, dropped.block_size / dropped.width * odds)
    assert cells.closed_form[0] == pytest.approx(0, abs=1e-12)
    # equal classes shrink together: the same θ, the same closed form whatever r
    assert np.allclose(record.arrays["closed_form"][1:], record.arrays["closed_form"][1])
    assert (dropped.deterministic > dropped.closed_form).all()


def test_monte_carlo_is_the_deterministic_objective_at_every_epoch(record):
    rows = record.curves.dropna(subset="monte_carlo")
    assert len(rows) == 3 * 3
    assert ((rows.monte_carlo - rows.deterministic).abs() <= 3 * rows.standard_error).all()
    # negative control: the data fit alone is not
    rows = rows[rows.step > 0]
    assert ((rows.monte_carlo - rows.data_fit).abs() > 3 * rows.standard_error).sum() >= 4


def test_no_checkpoint_is_left(record):
    assert not (record.path.parents[2] / "checkpoints").exists() or not any(
        (record.path.parents[2] / "checkpoints").iterdir()
    )


@pytest.mark.parametrize("module", ["last_layer_dropout"])
def test_figures(record, module):
    assert {p.stem for p in record.figures.glob("*.pdf")} == {"objective", "spectra", "shrinkage", "assumptions"}


@pytest.mark.parametrize("targets", ["one_hot", "centred"])
def test_the_closed_form_starts_from_the_spectrum_of_the_targets(targets):
    images = load_images(config("last_layer_dropout", f"data.targets={targets}", "data.imbalance=5").data)
    _, table = last_layer_dropout.cells_of(config("last_layer_dropout"))
    target, theory = last_layer_dropout.closed_forms(images, table)
    Y = images.targets[images.train.labels].double()
    assert np.allclose(target, torch.linalg.svdvals(Y).numpy(), atol=1e-6)
    assert np.allclose(theory["singular_values"][0], target)  # without dropout
    if targets == "one_hot":
        counts = torch.bincount(images.train.labels).double().sqrt().sort(descending=True).values
        assert np.allclose(target, counts.numpy())


def test_the_approximations_pairs_and_figures(tmp_path):
    done = runner.execute(config("dropblock_approximation", f"results={tmp_path}"), "", quiet=True).record
    assert done.cells.place.tolist() == ["none", "features", "features", "maps", "maps"]
    assert done.cells.scheme.tolist() == ["none", "disjoint", "original", "disjoint", "original"]
    assert {p.stem for p in done.figures.glob("*.pdf")} == {"training", "test"}
    pairs = dropblock_approximation.differences(done.table("curves"), "train_loss")
    final = done.cells.set_index(["place", "scheme"]).train_loss
    last = pairs[(pairs.step == 2) & (pairs.place == "maps")].difference
    assert float(last.iloc[0]) == pytest.approx(final["maps", "disjoint"] - final["maps", "original"])


def test_interrupted_and_started_again(tmp_path, monkeypatch):
    """A run that stops between two networks goes on with the second, and ends with the same record."""
    whole = config("last_layer_dropout", f"results={tmp_path / 'whole'}")
    cut = config("last_layer_dropout", f"results={tmp_path / 'cut'}")
    expected = runner.execute(whole, "", quiet=True).record
    train, calls = deep._train, []

    def interrupted(job, threads, advance):
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(job, threads, advance)

    monkeypatch.setattr(deep, "_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.execute(cut, "", quiet=True)
    assert len(list((tmp_path / "cut" / "checkpoints").glob("*/*.pt"))) == 2
    monkeypatch.setattr(deep, "_train", train)
    resumed = runner.execute(cut, "", quiet=True).record
    assert resumed.curves.equals(expected.curves)
    assert resumed.cells.equals(expected.cells)
    for name, array in expected.arrays.items():
        assert np.array_equal(resumed.arrays[name], array, equal_nan=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dropout.block_size=5", "dropout.block_size=5: must divide model.width=64"),
        ("training.batch_size=7 training.devices=2", "training.batch_size=7: must be a multiple of"),
        ("training.mask_per=sample training.masks_per_step=8", "training.masks_per_step=8: averages over masks only"),
    ],
)
def test_refused_in_one_line(override, message):
    with pytest.raises(UserError) as error:
        config("last_layer_dropout", *override.split())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_linear_data_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"data\.kind=digit_halves: must be one of mnist5k, .*, image_folder$"):
        composition.load(["experiment=last_layer_dropout", "data.kind=digit_halves"])


def test_even_squares_are_refused():
    with pytest.raises(UserError, match=r"options\.map_block_size=4: must be odd"):
        config("dropblock_approximation", "options.map_block_size=4")
