"""What the files in conf/ compose to, beyond what the command line's tests see."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from repro.pipeline.composition import conf, files
from repro.pipeline.settings import load
from repro.pipeline.system.errors import UserError


@pytest.mark.parametrize("name", sorted(conf.experiments()))
@pytest.mark.parametrize("scale", conf.SCALES)
def test_every_experiment_resolves_in_place_as_hydras_cfg_flag_does(name, scale):
    with initialize_config_dir(str(conf.CONF), version_base="1.3"):
        config = compose("config", [f"experiment={name}", f"scale={scale}"])
    OmegaConf.resolve(config)
    assert "${" not in OmegaConf.to_yaml(config)


@pytest.mark.parametrize("scale", ["smoke", "cpu"])
def test_cifar10_is_for_the_gpu_scale_alone(scale, tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    chosen = load(["experiment=last_layer_dropout", f"scale={scale}", f"data.root={tmp_path}"])
    assert (chosen.data.kind, chosen.model.kind) == ("mnist5k", "resnet8")


def test_the_gpu_scale_takes_cifar10_only_where_it_is_or_may_be_fetched(tmp_path):
    gpu = ["experiment=last_layer_dropout", "scale=gpu", f"data.root={tmp_path}"]
    assert load(gpu).data.kind == "mnist5k"
    assert load([*gpu, "data.download=true"]).data.kind == "cifar10"
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert load(gpu).data.kind == "cifar10"
    assert load(gpu).model.kind == "resnet56"


def test_a_group_chosen_on_the_command_line_is_taken_whole():
    chosen = load(["experiment=last_layer_dropout", "data=fashion_mnist", "model=resnet50"])
    assert (chosen.data.kind, chosen.model.kind, chosen.model.width) == ("fashion_mnist", "resnet50", 2048)


def test_what_an_experiment_sets_of_another_option_is_gone():
    chosen = ["experiment=dropconnect", "data=arrays", "data.X=X.npy", "data.Y=Y.npy"]
    assert conf.composed(["experiment=dropconnect"])["data"]["correlation"] == 0.9
    assert "correlation" not in conf.composed(chosen)["data"]
    with pytest.raises(UserError, match=r"data\.correlation: unknown key"):
        load([*chosen, "data.correlation=0.9"])


def test_every_experiment_is_listed_under_the_paper_that_it_says():
    listed = {name: paper for paper, names in files.papers().items() for name in names}
    assert sorted(listed) == sorted(conf.experiments())
    for name, paper in listed.items():
        assert load([f"experiment={name}", "scale=smoke"]).paper == paper


def test_a_paper_of_its_own_is_a_group_of_its_own(tmp_path):
    (tmp_path / "experiment").mkdir()
    for name, line in {"a": "", "b": "paper: Another (2019)  # and why", "c": "title: paper: no key"}.items():
        (tmp_path / "experiment" / f"{name}.yaml").write_text(f"name: {name}\n{line}\n", encoding="utf-8")
    main, other = files.papers(tmp_path).items()
    assert main == ("Structured dropout (Pal et al. 2020)", ["a", "c"])
    assert other == ("Another (2019)", ["b"])
