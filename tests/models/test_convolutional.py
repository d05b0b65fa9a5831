"""LeNet-5 and the ConvNet: shapes, sizes, and what is too small for them."""

import pytest
import torch

from repro.models.convnet import Settings as ConvNetSettings
from repro.models.convnet.build import ConvNet
from repro.models.lenet5 import Settings as LeNet5Settings
from repro.models.lenet5.build import LeNet5
from repro.pipeline.system.errors import UserError

LENET = LeNet5Settings(kind="lenet5", channels=(20, 50), hidden=500)
CONVNET = ConvNetSettings(kind="convnet", channels=(32, 32, 64))


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_lenet5_is_caffes():
    network = LeNet5(LENET, 1, 10, seed=0)
    assert parameters(network) == 520 + 25_050 + 400_500 + 5_010
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_convnet_is_caffes():
    network = ConvNet(CONVNET, 3, 10, seed=0)
    assert parameters(network) == 2_432 + 25_632 + 51_264 + 10_250
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(("build", "settings"), [(LeNet5, LENET), (ConvNet, CONVNET)])
@pytest.mark.parametrize("size", [(16, 16), (17, 24), (28, 28), (31, 33)])
def test_any_size(build, settings, size):
    network = build(settings, 2, 7, seed=0, size=size)
    x = torch.zeros(3, 2, *size)
    assert network.head(network.features(x)).shape == network(x).shape == (3, 7)


@pytest.mark.parametrize(("build", "settings"), [(LeNet5, LENET), (ConvNet, CONVNET)])
def test_too_small_images_are_refused(build, settings):
    with pytest.raises(UserError, match=r"images must have at least \d+ × \d+ pixels, got \(8, 28\)"):
        build(settings, 1, 10, seed=0, size=(8, 28))


def test_a_seed_gives_the_same_network_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    one, same, other = (LeNet5(LENET, 1, 10, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.conv2.weight, same.conv2.weight)
    assert not torch.equal(one.conv2.weight, other.conv2.weight)
