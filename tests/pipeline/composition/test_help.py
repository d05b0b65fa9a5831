"""The page of `--help`: every key once with its value, and with what it means where its name does not say it."""

import re
from collections import Counter

import pytest
import yaml
from omegaconf import OmegaConf

from repro.pipeline import cli
from repro.pipeline.composition import conf, help
from repro.pipeline.settings.loading import taken

BY_NAME = {"kind", "scheme"}  # they are what they are called, and the line above their file's first key says it


def page(overrides, extra=None, taken=taken):
    return help.page(overrides, extra, taken)


def keys_of(page):
    """Each dotted key with its comment, of the part of the page that lists them."""
    part = re.split(r"Keys and their values: .*\n", page)[1].split("\nFlags")[0]
    return [(key, help._LINE.match(line)["comment"]) for line, key in help._keyed(part) if key], part


@pytest.mark.parametrize("overrides", [[], *([f"experiment={name}"] for name in conf.experiments())], ids=str)
def test_every_key_is_there_once_and_explained_once(overrides):
    keys, part = keys_of(page(overrides, taken=lambda *_: {}))
    assert {key for key, times in Counter(key for key, _ in keys).items() if times > 1} == set()
    composed = OmegaConf.to_container(conf.compose_all(overrides, None), resolve=False)
    if overrides:  # what it is called stands above
        composed = {key: value for key, value in composed.items() if key not in ("name", "module", "title", "paper")}
    assert yaml.safe_load(part) == composed
    groups = {key for key, value in composed.items() if isinstance(value, dict)}
    unexplained = {key for key, comment in keys if not comment} - groups
    assert {key for key in unexplained if key.rpartition(".")[2] not in BY_NAME} == set()
    comments = Counter(comment for _, comment in keys if comment)
    assert {comment for comment, times in comments.items() if times > 1} == set()


def test_what_is_said_is_said_of_the_options_that_are_chosen():
    network = dict(keys_of(page(["experiment=last_layer_dropout"]))[0])
    assert network["training.learning_rate"] == "peak step size"  # and not what another experiment says of its own
    assert network["model.channels"] == "of the first stage"  # from the file that all residual networks share
    embedding = dict(keys_of(page(["experiment=last_layer_embedding"]))[0])
    assert embedding["options.without"] == network["options.without"]  # from the experiment that it varies
    gaussian, part = keys_of(page(["experiment=any_dropout", "dropout=gaussian"]))
    assert "scheme: gaussian\n" in part
    assert dict(gaussian)["dropout.correlation"].startswith("between neighbouring units")
    assert "dropout.correlation" not in dict(keys_of(page(["dropout=bernoulli"]))[0])


@pytest.mark.parametrize("resolve", [[], ["--resolve"]])
def test_the_job_that_is_shown_has_the_group_that_was_named(resolve, capsys):
    typed = ["--cfg", "job", *resolve, "experiment=any_dropout", "scale=smoke", "dropout=gaussian", "model=linear"]
    assert cli.run(typed) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["dropout"] == {
        "scheme": "gaussian", "correlation": 0.5, "block_size": 4, "p": None, "retain": [0.5, 0.7, 0.9],
    }  # fmt: skip
    assert shown["training"]["steps"] == (100 if resolve else "${at_scale:100,1000,10000}")
    assert shown["name"] == "any_dropout"


def test_an_experiment_says_what_it_takes_and_of_nothing_else():
    shown = page(["experiment=rank_collapse", "dropout=gaussian"])
    assert shown.startswith(f"rank_collapse: {conf.experiments()['rank_collapse']}\n")
    assert re.search(r"^  data=digit_halves +MNIST: predict the lower half", shown, re.M)
    assert re.search(r"^\* dropout=gaussian +multiplicative Gaussian noise", shown, re.M)
    assert re.search(r"^  dropout=dropblock ", shown, re.M)
    for absent in ("resnet", "cifar10", "submitit", "last_layer", "training=network"):
        assert absent not in shown
    everything = page([])
    assert "submitit_slurm" in everything
    assert everything.count("last_layer_abrupt ") == 1  # in its own line, not again among the groups


def test_what_a_user_has_beside_ours(tmp_path):
    for kind, text in {
        "data": "defaults: [synthetic, _self_]\nrank: 3\n",
        "dropout": "# of mine\nscheme: bernoulli\n",
    }.items():
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "mine.yaml").write_text(text, encoding="utf-8")
    shown = page(["experiment=rank_collapse"], tmp_path)
    assert "\n  data=mine\n" in shown
    assert re.search(r"^  dropout=mine +of mine$", shown, re.M)
    assert "mine" not in page(["experiment=last_layer_dropout"], tmp_path).partition("dropout=")[0]
