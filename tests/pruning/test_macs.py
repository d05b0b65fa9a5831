"""MACs beside those that the papers give and those that PyTorch's flop counter counts."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from repro.models.resnet import Settings
from repro.models.resnet.build import ResNet
from repro.pruning import conv_macs, cut, prunable, remaining_macs, speed_up, target


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def convnet():
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), pool, nn.Conv2d(32, 32, 5, padding=2), pool,
        nn.Conv2d(32, 64, 5, padding=2), pool, nn.Flatten(), nn.Linear(1024, 10),
    )  # fmt: skip


def resnet(kind, channels=16):
    settings = Settings(kind=kind, embedding=True, channels=channels, width_factor=1.0, stem_stride=1, width=10)
    return ResNet(settings, 3, 10, 0)


def counted(network, shape):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, *shape))
    return sum(n for name, n in counter.get_flop_counts()["Global"].items() if "conv" in str(name)) // 2


NETWORKS = {
    "LeNet-5": (lenet, (1, 28, 28), 1_888_000),
    "ConvNet": (convnet, (3, 32, 32), 12_288_000),
    "ResNet-20": (lambda: resnet("resnet20"), (3, 32, 32), None),
    "ResNet-56": (lambda: resnet("resnet56"), (3, 32, 32), None),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_what_a_flop_counter_counts(name):
    make, shape, known = NETWORKS[name]
    network = make()
    found = conv_macs(network, shape)
    assert network.training  # its mode is its own
    assert sum(found.values()) == counted(network, shape)
    assert known in (None, sum(found.values()))
    next(iter(network.parameters())).data.zero_()  # weights that are 0 are counted all the same: masks save nothing
    assert conv_macs(network, shape) == found


def test_macs_layer_by_layer():
    assert [*conv_macs(lenet(), (1, 28, 28)).values()] == [288_000, 1_600_000]
    assert [*conv_macs(convnet(), (3, 32, 32)).values()] == [2_457_600, 6_553_600, 3_276_800]
    found = conv_macs(resnet("resnet56"), (3, 32, 32))
    shortcuts = {name for name in found if "downsample" in name}
    assert len(shortcuts) == 2  # which option A does without
    assert sum(n for name, n in found.items() if name not in shortcuts) == 125_485_056


def test_what_pruning_leaves():
    macs = conv_macs(lenet(), (1, 28, 28))
    first, second = macs
    columns = {first: 23 / 25, second: 450 / 500}
    assert speed_up(macs, remaining_macs(macs, columns=columns)) == pytest.approx(10.3147, abs=1e-4)
    assert remaining_macs(macs, {first: 0.5}, {first: 0.2})[first] == pytest.approx(288_000 * (1 - (0.5 + 0.2 - 0.1)))
    assert remaining_macs(macs) == macs
    with pytest.raises(ValueError, match="columns must be of 0, 2, got 5"):
        remaining_macs(macs, columns={"5": 0.5})
    with pytest.raises(ValueError, match=r"filters of 0 must be in \[0, 1\), got 1.0"):
        remaining_macs(macs, {first: 1.0})


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, 1.993), (0.7, 3.593)])
def test_the_papers_speed_ups_of_resnet_56(ratio, expected):
    """The first convolution of each block loses filters, and the second what it had of them; shortcuts are not
    counted, as option A has none."""
    network, shape = resnet("resnet56"), (3, 32, 32)
    example = torch.randn(1, *shape)
    filters = {
        name: torch.arange(n) >= target(n, ratio)
        for name in prunable(network, example, "filter")
        for n in [len(network.get_submodule(name).weight)]
    }
    assert len(filters) == 27

    def macs(of):
        return {name: n for name, n in conv_macs(of, shape).items() if "downsample" not in name}

    smaller = cut(network, example, filters=filters)
    assert speed_up(macs(network), macs(smaller)) == pytest.approx(expected, abs=1e-3)
    assert sum(conv_macs(smaller, shape).values()) == counted(smaller, shape)
