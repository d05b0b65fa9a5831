"""The configuration: what composes, what its types are, and which run it stands for."""

from pathlib import Path

import pytest

from repro.pipeline import settings
from repro.pipeline.composition import conf
from repro.pipeline.composition.wording import nearest
from repro.pipeline.store import identity
from repro.pipeline.system.errors import UserError

CONF = Path(__file__).parents[2] / "fixtures" / "conf"


def load(*overrides):
    return settings.load(["experiment=tiny", *overrides], extra=CONF)


def fingerprint(*overrides):
    return identity.fingerprint(load(*overrides).plain())


def test_one_value_or_a_list_arrives_as_a_tuple():
    config = load("seed=3", "dropout.block_size=4", "dropout.p=[0.5,1e-2]")
    assert config.seed == (3,)
    assert config.dropout.block_size == (4,)
    assert config.dropout.p == (0.5, 0.01)
    assert config.dropout.retain is None


def test_a_whole_number_is_a_number_but_not_the_other_way_round():
    assert load("training.learning_rate=1").training.learning_rate == 1.0
    with pytest.raises(UserError, match=r"training.steps=1.5: must be an integer"):
        load("training.steps=1.5")


@pytest.mark.parametrize(("scale", "steps", "seeds"), [("smoke", 3, 1), ("cpu", 5, 2), ("gpu", 7, 3)])
def test_sizes_follow_the_scale(scale, steps, seeds):
    config = load(f"scale={scale}")
    assert (config.scale, config.training.steps, len(config.seed)) == (scale, steps, seeds)


@pytest.mark.parametrize(("usable", "scale", "device"), [(True, "gpu", "cuda"), (False, "cpu", "cpu")])
def test_auto_goes_by_the_hardware(monkeypatch, usable, scale, device):
    monkeypatch.setattr(conf, "cuda_is_usable", lambda: usable)
    config = load()
    assert (config.scale, config.device) == (scale, device)


def test_an_override_wins_over_the_scale():
    assert load("scale=gpu", "training.steps=11").training.steps == 11


def test_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load().seed = (1,)


def test_fingerprint_is_of_the_configuration_not_of_how_it_was_typed():
    one = fingerprint("scale=cpu", "seed=[0,1]", "dropout.p=0.5", "model.width=16")
    assert one == fingerprint("model.width=16", "dropout.p=[0.5]", "scale=cpu")  # seed is the default there
    assert one == fingerprint("dropout.p=0.5", "seed=[0,1]", "model.width=16", "scale=smoke", "training.steps=5")


@pytest.mark.parametrize(
    "same", ["tracking.mode=offline", "results=elsewhere", "force=true", "title=other", "paper=other"]
)
def test_fingerprint_ignores_what_does_not_make_the_numbers(same):
    assert fingerprint(same) == fingerprint()


@pytest.mark.parametrize(
    "other",
    ["seed=7", "training.steps=4", "options.factor=2.5", "data.noise=0.1", "dropout=bernoulli", "threads=1"],
)
def test_fingerprint_tells_other_numbers_apart(other):
    assert fingerprint(other) != fingerprint()


@pytest.mark.parametrize("name", conf.experiments())
@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu"])
def test_every_experiment_composes_at_every_scale(name, scale):
    config = settings.load([f"experiment={name}", f"scale={scale}"])
    assert config.name == name
    assert config.title == conf.experiments()[name]


@pytest.mark.parametrize("name", conf.experiments())
def test_every_experiment_file_begins_with_its_command(name):
    lines = (conf.CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# @package _global_"  # Hydra reads it in the first line only
    assert lines[1].startswith(f"# python scripts/run.py experiment={name}")


# Group files that the tiny experiment cannot take (it sets steps, which networks count in epochs) → one that can.
OF_ONE_EXPERIMENT = {
    "lenet_300_100": "adaptive_sparsification",
    "network": "last_layer_dropout",
    **dict.fromkeys(("convnet", "lenet5", "pruning"), "incremental_pruning"),
    "deep_linear": "deep_linear_regularizer",
    **dict.fromkeys(("mlp", "tables", "variational"), "variational_regression"),
    "none": "structured_noise",
    **dict.fromkeys(("structured_output", "digit_contours"), "structured_output_landmarks"),
    **dict.fromkeys(("half_digits", "rings"), "structured_output_digits"),
}


NEEDS_FILES = ("arrays", "image_arrays", "landmarks")


@pytest.mark.parametrize("path", sorted(conf.CONF.glob("*/[!_]*.yaml")), ids=lambda path: path.stem)
def test_every_group_file_composes(path):
    if path.stem in NEEDS_FILES:
        with pytest.raises(UserError, match=f"null: data={path.stem} needs"):
            load(f"data={path.stem}")
    elif path.stem in OF_ONE_EXPERIMENT:
        assert settings.load([f"experiment={OF_ONE_EXPERIMENT[path.stem]}", f"{path.parent.name}={path.stem}"])
    elif path.parent.name != "experiment":
        assert load(f"{path.parent.name}={path.stem}")


def test_near_misses():
    known = ["dropout", "dropout.block_size", "seed", "data.seed"]
    assert nearest("dropout.blocksize", known) == "; did you mean dropout.block_size?"
    assert nearest("block_sise", known) == "; did you mean dropout.block_size?"
    assert nearest("sed", known) == "; did you mean seed?"
    assert nearest("colour", known) == ""
    assert nearest("data.source", ["force", "data.noise", "data.rank"]) == ""
    assert nearest("training.depth", ["training.dtype", "training.steps", "model.kind"]) == ""
    assert nearest("data.block_size", known) == "; did you mean dropout.block_size?"


def test_jobs():
    assert conf.jobs(["experiment=tiny", "seed=[1,2]"]) == [["experiment=tiny", "seed=[1,2]"]]
    several = conf.jobs(["experiment=tiny", "seed=1,2", "dropout.p=0.5,0.8"], multirun=True)
    assert [job[1:] for job in several] == [
        ["seed=1", "dropout.p=0.5"],
        ["seed=1", "dropout.p=0.8"],
        ["seed=2", "dropout.p=0.5"],
        ["seed=2", "dropout.p=0.8"],
    ]
