"""Disjoint beside original DropBlock: what is trained on which images, and an equivalence that can fail."""

import numpy as np
import pandas as pd
import pytest
import torch

from repro.papers.structured_dropout import dropblock_approximation as experiment
from repro.papers.structured_dropout import networks
from repro.papers.structured_dropout.dropblock_approximation import run as running
from repro.pipeline import settings
from repro.pipeline.execution import runner
from repro.pipeline.presentation import verdicts
from repro.pipeline.store import Result, Run
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress

QUICK = ["experiment=dropblock_approximation", "scale=smoke", "tracking.mode=disabled", "training.epochs=2"]


def config(*overrides):
    return settings.load([*QUICK, "training.learning_rate=0.1", *overrides])


def test_the_table_its_pairs_and_figures(tmp_path):
    record = runner.execute(Run(config(f"results={tmp_path}")), quiet=True).record
    assert record.cells.place.tolist() == ["none", "features", "features", "maps", "maps"]
    assert record.cells.scheme.tolist() == ["none", "disjoint", "original", "disjoint", "original"]
    assert {p.stem for p in record.figures.glob("*.pdf")} == {"margins", "training", "test", "accuracy"}
    assert set(experiment.CAPTIONS) == {"margins", "training", "test", "accuracy"}
    for column in experiment.MEASURES:
        final = record.cells.set_index(["place", "scheme"])[column]
        (pair,) = experiment.of_effect(record.cells, "maps", column).itertuples()
        assert pair.difference == pytest.approx(final["maps", "disjoint"] - final["maps", "original"])
        assert pair.effect == pytest.approx(final["maps", "original"] - final["none", "none"])
        assert pair.fraction == pytest.approx(pair.difference / pair.effect)


def test_the_test_error_is_the_squared_error_on_held_out_images():
    one = config("options.places=[]", "training.epochs=1")
    images = running.load(one.data)
    measure = networks.Measurement(networks.Job(networks.task(one, images, 0, None), "cpu", 1, 64), "cpu")
    network = measure.job.task.build().eval()
    row = measure(0, network)
    for part, column in ((images.test, "test_error"), (images.train, "data_fit")):
        wanted = images.targets[part.labels]
        with torch.no_grad():
            error = wanted - network.head(network.features(images.normalized(part.images)))
        assert row[column] == pytest.approx(float(error.square().sum() / wanted.square().sum()), rel=1e-4)


def test_each_seed_holds_out_other_images_and_its_networks_the_same(monkeypatch):
    seen = {}

    def stop(jobs, config, progress):
        for job in jobs:
            seen.setdefault(job.task.seed, []).append(job.task.images)
        raise KeyboardInterrupt

    monkeypatch.setattr(networks, "train_all", stop)
    for seed in ("seed=[0,1]", "seed=[1,2]", "seed=1 data.seed=1"):
        with pytest.raises(KeyboardInterrupt):
            running.run(config(*seed.split()), Progress("", quiet=True))
    assert [len(seen[seed]) for seed in (0, 1, 2)] == [5, 15, 5]
    first, second, third = seen[0][0].test.images, seen[1][0].test.images, seen[2][0].test.images
    assert all(images is seen[1][0] for images in seen[1][:5])
    assert torch.equal(seen[1][5].test.images, second)  # whatever other seeds are there
    assert torch.equal(seen[1][10].test.images, third)  # data.seed moves all splits
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_the_size_of_the_grid_is_known():
    one = config("seed=[0,1]", "dropout.retain=[0.3,0.5]")
    assert one.cells == len(one.seed) * len(running.grid(one)) == 2 * (1 + 4 + 2)


@pytest.mark.parametrize("scheme", ["bernoulli", "overlapping_dropblock"])
def test_other_noise_is_refused_in_one_line(scheme):
    with pytest.raises(
        UserError, match=rf"^dropout\.scheme={scheme}.*: dropblock_approximation takes dropout=dropblock$"
    ):
        config(f"dropout={scheme}")


def test_even_squares_are_refused():
    with pytest.raises(UserError, match=r"options\.map_block_size=4: must be odd"):
        config("options.map_block_size=4")


# ---------------------------------------------------------------------- claims, on made-up records


def record_of(tmp_path, difference=0.0, effect=0.04, noise=0.001, seeds=5, worse=1, **edits):
    """A record in which original − none is `effect` (times `worse`) and disjoint − original `difference`; both with
    noise of their own."""
    one = settings.load(["experiment=dropblock_approximation", "scale=cpu", "device=cpu", f"results={tmp_path}"])
    draw, rows = np.random.default_rng(1), []
    for seed in range(seeds):
        for place, scheme in [("none", "none"), *((p, s) for p in experiment.PLACES for s in ("disjoint", "original"))]:
            value = 0.07 + worse * effect * (scheme != "none") + difference * (scheme == "disjoint")
            rows.append(
                {"place": place, "scheme": scheme, "seed": seed}
                | {column: value + noise * draw.normal() for column in experiment.MEASURES}
            )
    cells = pd.DataFrame(rows).assign(block_size=3, retain=0.8).rename_axis("cell").reset_index()
    for column, value in edits.items():
        cells.loc[2, column] = value
    return Run(one).write(Result(cells), {})


def decisions(record):
    found = [verdicts.judge(claim, record, experiment="", command="") for claim in experiment.CLAIMS]
    return {v.claim.id: v.decision for v in found}


ALL = {f"{kind}_{m}_{p}" for kind in ("equal", "effect") for m in experiment.MEASURES for p in experiment.PLACES}


@pytest.mark.parametrize("worse", [1, -1])  # dropout may help too
def test_equal_schemes_are_shown_to_be_equivalent(tmp_path, worse):
    assert decisions(record_of(tmp_path, worse=worse)) == dict.fromkeys(ALL, "holds")


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"difference": 0.011}, "equal"),  # 0.275 of the effect
        ({"difference": -0.011}, "equal"),
        ({"difference": -0.04}, "equal"),  # disjoint blocks are no dropout
        ({"noise": 0.02}, "equal"),  # no significant difference, and no equivalence either
        ({"effect": 0.0}, "both"),  # equal, but so would no dropout be
        ({"effect": 0.0, "seeds": 20}, "both"),
    ],
)
def test_schemes_that_differ_or_are_not_known_to_be_equal_fail(changes, failing, tmp_path):
    found = decisions(record_of(tmp_path, **changes))
    kinds = ("equal", "effect") if failing == "both" else (failing,)
    assert {found[claim] for claim in ALL if claim.startswith(kinds)} == {"fails"}


def test_no_dropout_never_passes_for_the_original(tmp_path):
    """Wherever an effect is known to exceed the margin, networks without dropout in disjoint blocks' place fail."""
    record = record_of(tmp_path)
    bare = record.cells[record.cells.scheme == "none"].set_index("seed")
    swapped = record.cells.scheme == "disjoint"
    for column in experiment.MEASURES:
        again = record.cells.seed[swapped].map(bare[column])
        record.cells.loc[swapped, column] = again + 1e-4 * record.cells.seed[swapped]  # trained once more
    assert decisions(record) == {claim: "fails" if claim.startswith("equal") else "holds" for claim in ALL}


def test_one_seed_or_nothing_dropped_is_not_measured(tmp_path):
    assert set(decisions(record_of(tmp_path / "one", seeds=1)).values()) == {"not measured"}
    record = record_of(tmp_path)
    record.__dict__["cells"] = record.cells[record.cells.place != "maps"]
    assert {claim for claim, found in decisions(record).items() if found == "not measured"} == {
        claim for claim in ALL if claim.endswith("maps")
    }


def test_cross_entropy_is_not_measured_by_squared_error(tmp_path):
    record = record_of(tmp_path)
    record.config["training"]["loss"] = "cross_entropy"
    assert {claim for claim, found in decisions(record).items() if found == "not measured"} == {
        claim for claim in ALL if "test_error" in claim
    }


def test_a_network_that_diverged_fails_its_place(tmp_path):
    """The seed does not drop out of the mean."""
    found = decisions(record_of(tmp_path, test_error=np.nan))  # of the first seed's original on features
    assert {claim for claim, decision in found.items() if decision == "fails"} == {
        "equal_test_error_features",
        "effect_test_error_features",
    }
    rows = [("none", "none", 1.0), *(("maps", s, v) for s in ("disjoint", "original") for v in (2.0, np.nan))]
    cells = pd.DataFrame(rows, columns=["place", "scheme", "test_error"]).assign(seed=0)
    assert experiment.of_effect(cells, "maps", "test_error").effect.isna().all()  # nor one of its rates
