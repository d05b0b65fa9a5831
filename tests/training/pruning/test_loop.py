"""The loop that prunes: what is removed stays removed, a killed run goes on alike, floors hold."""

from copy import deepcopy

import pytest
import torch

from repro.data.images import load
from repro.data.mnist5k import Settings as Digits
from repro.models.convnet import Settings as ConvNetSettings
from repro.models.convnet.build import ConvNet
from repro.models.lenet5 import Settings as LeNet5Settings
from repro.models.lenet5.build import LeNet5
from repro.models.resnet import Settings as ResNetSettings
from repro.models.resnet.build import ResNet
from repro.pruning import cut
from repro.training import checkpoint
from repro.training.pruning import Settings, floor
from repro.training.pruning.kinds import method_of
from repro.training.pruning.loop import Stage, begin, fit
from repro.training.pruning.networks import Classifier, Data, Layer, accuracy, pruned_layers

DIGITS = Digits(
    kind="mnist5k", root=None, download=False, subset=200, imbalance=1.0, targets="one_hot", held_out=0.2,
    crop_padding=2, flip=False, image_size=None, seed=0,
)  # fmt: skip
TRAINING = Settings(
    kind="pruning", epochs=1, updates=24, pruning=16, batch_size=20, learning_rate=0.01, rate=0.01, momentum=0.9,
    weight_decay=2.5e-4, groups="column", first_removal=1, gentleness=10.0, lasso=0.1, afp=0.5, validation=0.2,
    channels_last=True, checkpoint=5,
)  # fmt: skip
METHODS = ("one_shot", "afp", "group_lasso", "greg_1", "greg_2", "inc_reg", "random", "largest")
NETWORKS = {
    "lenet5": lambda: LeNet5(LeNet5Settings(kind="lenet5", channels=(8, 8), hidden=16), 1, 10, 0),
    "convnet": lambda: ConvNet(ConvNetSettings(kind="convnet", channels=(8, 8, 8)), 1, 10, 0, (28, 28)),
    "resnet8": lambda: ResNet(
        ResNetSettings(kind="resnet8", width=32, embedding=False, channels=8, width_factor=1.0, stem_stride=2), 1, 10, 0
    ),
}


@pytest.fixture(scope="module")
def data():
    return Data.of(load(DIGITS), DIGITS, TRAINING, "cpu")


def network_of(name="lenet5"):
    return Classifier(NETWORKS[name]()).to(memory_format=torch.channels_last)


def pruning_of(network, data, method="inc_reg", ratio=0.6, training=TRAINING):
    names = pruned_layers(network, training.groups, data.inputs(data.train.images[:1]))
    layers = {name: Layer(network, name, training.groups, others) for name, others in names.items()}
    methods = {
        name: method_of(method, len(layer), ratio, training, training.gentleness, name)
        for name, layer in layers.items()
    }
    return begin(network, training, layers, methods)


def stage_of(training=TRAINING, probe=50):
    return Stage("pruning", 0, training.updates, training.rate, training.pruning, probe, log=6)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["column", "filter"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_removed_stays_removed_and_can_be_cut(data, name, kind, method):
    training = TRAINING.model_copy(update={"groups": kind})
    network = network_of(name)
    pruning = pruning_of(network, data, method, 0.6, training)
    fit(pruning, data, stage_of(training), training)
    assert pruning.done
    for layer, one in zip(pruning.layers.values(), pruning.methods.values(), strict=True):
        assert one.removed == one.target
        assert (layer.scores()[~one.alive] == 0).all()
        assert (layer.scores()[one.alive] > 0).all()
    example = data.inputs(data.images.test.images[:8])
    smaller = cut(network, example, **{f"{kind}s": {name: m.alive for name, m in pruning.methods.items()}})
    with torch.no_grad():
        torch.testing.assert_close(smaller.eval()(example), network.eval()(example), rtol=1e-4, atol=1e-4)


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", [3, 5, 9, 17, 23])
def test_a_killed_run_goes_on_with_the_same_numbers(data, tmp_path, method, when):
    whole = pruning_of(network_of("resnet8"), data, method)
    fit(whole, data, stage_of(), TRAINING)
    done = 0

    def advance(updates):
        nonlocal done
        done += updates
        if done == when:
            raise Killed

    path = tmp_path / "network.pt"
    with pytest.raises(Killed):
        fit(pruning_of(network_of("resnet8"), data, method), data, stage_of(), TRAINING, path=path, advance=advance)
    resumed = pruning_of(network_of("resnet8"), data, method)
    steps = []
    fit(resumed, data, stage_of(), TRAINING, path=path, advance=steps.append)
    assert steps[0] == (5 * ((when - 1) // 5) or 1)
    assert sum(steps) == TRAINING.updates
    assert same(resumed.state(), whole.state())


def test_the_comparison_sees_a_difference(data):
    one, other = (pruning_of(network_of(), data, method) for method in ("inc_reg", "greg_1"))
    for pruning in (one, other):
        fit(pruning, data, stage_of(), TRAINING)
    assert not same(one.state()["network"], other.state()["network"])
    assert same(one.state(), one.state())


def test_a_finished_network_is_loaded_and_one_of_other_code_or_damaged_is_not(data, tmp_path, capsys):
    path, steps = tmp_path / "network.pt", []
    fit(pruning_of(network_of(), data), data, stage_of(), TRAINING, path=path, code="this")
    fit(pruning_of(network_of(), data), data, stage_of(), TRAINING, path=path, code="this", advance=steps.append)
    assert steps == [TRAINING.updates]
    assert checkpoint.load(path, "other") is None
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert checkpoint.load(path, "this") is None
    assert "damaged checkpoint" in capsys.readouterr().err


def test_all_methods_see_the_same_batches_and_seeds_do_not(data):
    one, again, other = (data.batch("pruning", seed, 9, 20)[0] for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    epoch = torch.cat([data.batch("pruning", 0, update, 20)[1] for update in range(8)])
    assert torch.equal(epoch.sort().values, data.train.labels.sort().values)
    assert len(data.train) + len(data.validation) == 200


def test_penalties_end_after_their_time(data):
    slow = TRAINING.model_copy(update={"first_removal": 16})
    pruning = pruning_of(network_of(), data, training=slow)
    fit(pruning, data, stage_of(slow), slow)
    assert pruning.done
    assert pruning.forced > 0
    assert pruning.removals[-1]["step"] == slow.pruning


def test_a_network_that_diverges_is_given_up(data):
    wild = TRAINING.model_copy(update={"rate": 1e9})
    pruning = pruning_of(network_of(), data, training=wild)
    fit(pruning, data, stage_of(wild), wild)
    assert pruning.update < wild.updates
    assert not pruning.rows[-1]["train_loss"] < float("inf")


# ---------------------------------------------------------------------- to a floor


def test_ratios_rise_in_clipped_steps():
    found = [floor.next_ratio(0.3, above) for above in (0.5, 0.015, 0.0, -1.0)]
    assert found == pytest.approx([0.5, 0.45, 0.31, 0.31])


@pytest.fixture(scope="module")
def trained(data):
    pruning = begin(network_of(), TRAINING, {}, {})
    fit(pruning, data, Stage("training", 0, 60, 0.02, log=60), TRAINING)
    return pruning.network


def test_removal_costs_what_the_probe_sees(trained, data):
    """The largest groups at once cost much, after a gentle penalty the removal of the same number costs little."""
    abrupt, gentle = (pruning_of(deepcopy(trained), data, method) for method in ("largest", "greg_1"))
    for pruning in (abrupt, gentle):
        fit(pruning, data, stage_of(), TRAINING)
    assert abrupt.removals[0]["step"] == 0
    assert sum(row["groups"] for row in abrupt.removals) == sum(method.target for method in abrupt.methods.values())
    cost = [-sum(row["loss"] for row in pruning.removals) for pruning in (abrupt, gentle)]
    assert cost[1] < 0.1 < cost[0]


def to_floor(trained, data, least, **more):
    names = pruned_layers(trained, "column", data.inputs(data.train.images[:1]))
    return floor.to_floor(
        deepcopy(trained), names, data, TRAINING, 0, floor=least, updates=12, rounds=more.pop("rounds", 6), **more
    )


def test_what_falls_below_the_floor_is_rolled_back(trained, data):
    least = accuracy(trained, data, data.validation) - 0.1
    kept, rounds = to_floor(trained, data, least, rounds=20)
    assert [row.kept for row in rounds] == [True] * (len(rounds) - 1) + [False]
    assert rounds[-1].validation < least <= rounds[-2].validation
    assert accuracy(kept.network, data, data.validation) == rounds[-2].validation
    for name, method in kept.methods.items():
        assert method.removed == method.target
        assert (kept.layers[name].scores()[~method.alive] == 0).all()


def test_a_floor_that_nothing_meets_leaves_the_network_alone(trained, data):
    kept, rounds = to_floor(trained, data, 1.01)
    assert [row.kept for row in rounds] == [True, False]
    assert same(kept.network.state_dict(), trained.state_dict())


def test_a_floor_that_everything_meets_ends_at_the_last_group(trained, data):
    kept, rounds = to_floor(trained, data, 0.0, rounds=20)
    assert all(row.kept for row in rounds)
    assert rounds[-1].ratio == 1 - 1 / 25  # one of the first layer's columns is left
    assert kept.methods["network.conv1"].removed == 24


def test_killed_floors_go_on_with_the_same_numbers(trained, data, tmp_path):
    least = accuracy(trained, data, data.validation) - 0.3
    whole, rounds = to_floor(trained, data, least)
    done = 0

    def advance(updates):
        nonlocal done
        done += updates
        if done == 20:
            raise Killed

    with pytest.raises(Killed):
        to_floor(trained, data, least, folder=tmp_path, advance=advance)
    resumed, again = to_floor(trained, data, least, folder=tmp_path)
    assert again == rounds
    assert same(resumed.state(), whole.state())
