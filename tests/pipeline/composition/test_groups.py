"""A group named on the command line: it takes effect with every key that its file sets, or one line refuses it."""

import json
import re
from functools import cache

import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from repro.pipeline.composition import conf
from repro.pipeline.settings import load
from repro.pipeline.settings.config import module_of
from repro.pipeline.settings.loading import _is, taken
from repro.pipeline.system.errors import UserError

GROUPS = {
    group: sorted(path.stem for path in (conf.CONF / group).glob("[!_]*.yaml"))
    for group in ("data", "model", "dropout", "training")
}
FILES = {"image_folder": {"root": ""}, "parquet": {"root": ""}, "image_arrays": {"root": "images.npz"}}
FILES["arrays"] = {"X": "X.npy", "Y": "X.npy"}
FILES["landmarks"] = {"root": "ant"}
SMALL = ("scale=smoke", "device=cpu")
# Others are the same experiment with other values.
EXPERIMENTS = [
    name
    for name in conf.experiments()
    if "module" not in yaml.safe_load((conf.CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))
]


def loaded(experiment, *typed):
    """The configuration as nested dicts, with the keys that records leave out."""
    config = load([f"experiment={experiment}", *SMALL, *typed])
    return config.plain() | {
        group: json.loads(json.dumps(dict(getattr(config, group)), default=dict)) for group in GROUPS
    }


@cache
def as_it_is(experiment):
    return loaded(experiment)


@cache
def set_by(group, option):
    """What an option's own file sets, as it composes without an experiment."""
    with initialize_config_dir(str(conf.CONF), version_base="1.3"):
        whole = OmegaConf.to_container(compose("config", [*SMALL, f"{group}={option}"])[group], resolve=True)
    own = yaml.safe_load((conf.CONF / group / f"{option}.yaml").read_text(encoding="utf-8"))
    return {key: whole[key] for key in own if key != "defaults"}


def differing(wanted, found):
    """The keys of `wanted` that have another value in `found`, where one value may stand for a list of one."""
    return {key: found.get(key) for key, value in wanted.items() if found.get(key) not in (value, [value])}


@cache
def offered(experiment):
    """What the page of an experiment lists."""
    return taken(experiment)


def asked(experiment, group):
    """The options of a group to ask an experiment for: those of the type of its settings, and one other; the first
    experiment of each type is asked for every other, since it is the type that refuses."""
    types = {name: module_of(name).Config.model_fields[group].annotation for name in EXPERIMENTS}
    mine = types[experiment]
    if group == "dropout" or experiment == next(name for name in EXPERIMENTS if types[name] is mine):
        return GROUPS[group]
    others = [option for option in GROUPS[group] if not _is(mine, group, option, None)]
    return [option for option in GROUPS[group] if option not in others[1:]]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What options of a user's own data look at."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("X.npy", "images.npz"):
        (folder / name).touch()
    for name in ("ant", "bee"):
        (folder / name).mkdir()
        (folder / name / "0.png").write_bytes(b"")
        (folder / name / "0.pts").write_bytes(b"")
    pd.DataFrame({"image": [b""], "label": [0]}).to_parquet(folder / "train.parquet")
    return folder


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_option_takes_effect_or_is_refused_by_the_names_of_those_that_do(experiment, group, files):
    takes, refused = [], {}
    for option in asked(experiment, group):
        try:
            keys = FILES.get(option, {})
            found = loaded(experiment, f"{group}={option}", *(f"data.{key}={files}/{keys[key]}" for key in keys))
        except UserError as mistake:
            refused[option] = str(mistake)
            continue
        takes.append(option)
        assert {*differing(set_by(group, option), found[group])} <= {*keys}, option
        others = as_it_is(experiment).keys() - {group}
        assert {key: found[key] for key in others} == {key: as_it_is(experiment)[key] for key in others}, option
        if group == "dropout":  # the grid is the experiment's
            before = as_it_is(experiment)[group]
            sizes = ([1], before["block_size"], OmegaConf.load(conf.CONF / "config.yaml").dropout.block_size)
            assert (found[group]["p"], found[group]["retain"]) == (before["p"], before["retain"])
            assert found[group]["block_size"] in sizes
    if refused and all(" has no effect here, " in line for line in refused.values()):  # the whole group has none
        assert "\n" not in "".join(refused.values())
        return
    assert takes
    if (experiment, group) != ("incremental_pruning", "model"):  # which refuses some by what they are made of
        assert offered(experiment)[group] == takes
    kind = "scheme" if group == "dropout" else "kind"
    for option, line in refused.items():
        assert "\n" not in line
        refusal = re.fullmatch(rf"{group}\.{kind}=\w+: {experiment} takes {group}=([\w, ]+)", line)
        assert refusal, line
        assert refusal[1].split(", ") == takes, option


def dropout_of(experiment, *typed):
    return loaded(experiment, *typed)["dropout"]


@pytest.mark.parametrize("option", GROUPS["dropout"])
def test_any_dropout_with_one_noise_alone(option):
    before, after = as_it_is("any_dropout")["dropout"], dropout_of("any_dropout", f"dropout={option}")
    assert after != before
    assert after["scheme"] == set_by("dropout", option)["scheme"] or after["scheme"] == [option]
    blocks = {"dropblock", "overlapping_dropblock"} & {option}
    assert after["block_size"] == (before["block_size"] if blocks else [1])
    assert after.get("correlation") == (0.5 if option == "gaussian" else None)


@pytest.mark.parametrize("experiment", ["last_layer_dropout", "last_layer_embedding"])
def test_the_last_layer_takes_noise_on_its_units(experiment):
    before = as_it_is(experiment)["dropout"]
    for option, sizes in {"bernoulli": [1], "overlapping_dropblock": before["block_size"], "gaussian": [1]}.items():
        after = dropout_of(experiment, f"dropout={option}")
        assert (after["scheme"], after["block_size"], after["retain"]) == ([option], sizes, before["retain"])
    with pytest.raises(UserError, match=r"takes dropout=bernoulli, .*, gaussian, overlapping_dropblock, structured$"):
        dropout_of(experiment, "dropout=dropconnect")


@pytest.mark.parametrize("experiment", ["rank_collapse", "rank_collapse_digits", "global_minimum"])
@pytest.mark.parametrize("option", ["bernoulli", "gaussian", "overlapping_dropblock", "dropconnect"])
def test_the_closed_form_is_asked_of_every_noise_at_the_experiments_p(experiment, option):
    after = dropout_of(experiment, f"dropout={option}")
    assert (after["p"], after["retain"]) == (as_it_is(experiment)["dropout"]["p"], None)
    assert set(after["scheme"]) == ({"dropconnect_U", "dropconnect_V"} if option == "dropconnect" else {option})


def test_data_and_model_are_exchanged_whole():
    assert loaded("dropconnect")["data"]["correlation"] == 0.9
    data = loaded("dropconnect", "data=correlated")["data"]
    assert (data["correlation"], data["in_features"], data["rank"]) == (0.98, 12, 10)
    assert loaded("deep_linear_collapse")["data"]["whiten"]
    assert not loaded("deep_linear_collapse", "data=synthetic")["data"]["whiten"]
    with pytest.raises(UserError, match=r"^model.kind=resnet50: rank_collapse_digits takes model=linear$"):
        loaded("rank_collapse_digits", "model=resnet50")
    assert loaded("rank_collapse_digits", "model=linear")["model"]["width"] == 48
    network = loaded("last_layer_dropout", "model=resnet50")["model"]
    assert (network["kind"], network["width"], network["channels"]) == ("resnet50", 2048, 64)
    assert (network["width_factor"], network["stem_stride"]) == (1.0, 1)  # nothing of the narrow one is left


def test_a_key_of_the_users_wins_over_the_group_that_is_named_beside_it():
    for typed in (["dropout=gaussian", "dropout.correlation=0.2"], ["dropout.correlation=0.2", "dropout=gaussian"]):
        assert dropout_of("any_dropout", *typed)["correlation"] == 0.2
    assert dropout_of("rank_collapse", "dropout=overlapping_dropblock", "dropout.block_size=4")["block_size"] == [4]
    assert loaded("rank_collapse_digits", "model=linear", "model.width=24")["model"]["width"] == 24


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["dropout=bernoulli", "dropout.block_size=4"], "block_size=4: has no effect here, no blocks in bernoulli"),
        (["dropout=bernoulli", "++dropout.correlation=0.2"], "dropout.correlation=0.2: has no effect here"),
        (["dropout.scheme=gaussian", "dropout.block_size=[1,2]"], "no blocks in gaussian"),
    ],
)
def test_a_key_without_effect_is_refused(typed, says):
    with pytest.raises(UserError, match=re.escape(says)):
        loaded("rank_collapse", *typed)


def test_each_job_of_several_has_its_own_group():
    jobs = conf.jobs(["experiment=any_dropout", *SMALL, "dropout=gaussian,bernoulli"], multirun=True)
    assert [load(job).plain()["dropout"]["scheme"] for job in jobs] == [["gaussian"], ["bernoulli"]]


def test_what_is_shown_is_what_is_run():
    shown = OmegaConf.to_container(
        conf.compose_all(["experiment=any_dropout", *SMALL, "dropout=gaussian"], None)["dropout"], resolve=True
    )
    assert (shown["scheme"], shown["correlation"], shown["retain"]) == ("gaussian", 0.5, [0.5, 0.7, 0.9])


# Of these the noise is learned: one `retain` says where it starts, or none.
LEARNED = {"structured_posterior", "variational_regression", "variational_classification"}


ADAPTED = {"adaptive_penalties", "adaptive_regression", "adaptive_sparsification"}  # or follows the weights
# Or there is none.
WITHOUT = {"incremental_pruning", "incremental_schedule", "structured_output_landmarks", "structured_output_digits"}


@pytest.mark.parametrize("experiment", sorted({*EXPERIMENTS} - LEARNED - ADAPTED - WITHOUT))
def test_of_p_and_retain_the_one_that_is_typed_counts(experiment):
    one, other = "p", "retain"
    if as_it_is(experiment)["dropout"]["p"] is not None:
        one, other = other, one
    after = dropout_of(experiment, f"dropout.{one}=0.5")
    assert (after[one], after[other]) == ([0.5], None)
    after = dropout_of(experiment, f"dropout.{one}=[0.3,0.5]", f"dropout.{other}=null")
    assert (after[one], after[other]) == ([0.3, 0.5], None)
    with pytest.raises(UserError, match="p and retain are both given"):
        dropout_of(experiment, f"dropout.{one}=0.5", f"dropout.{other}=0.5")
    with pytest.raises(UserError, match="neither p nor retain is given"):
        dropout_of(experiment, f"dropout.{other}=null")
