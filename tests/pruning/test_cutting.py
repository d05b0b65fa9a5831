"""A cut network is the masked one; what cannot be cut is said in one line; a saved one needs nothing of ours."""

import subprocess
import sys
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from torch import Generator, nn

from repro.models.resnet import Settings
from repro.models.resnet.build import ResNet
from repro.pruning import Groups, companions, conv_macs, cut, load, prunable, save, silenced, target


def resnet(kind, channels=8, embedding=True):
    pooled = channels * {"resnet18": 8, "resnet50": 32}.get(kind, 4)
    width = 16 if embedding else pooled
    given = {"channels": channels, "width_factor": 1.0, "stem_stride": 1, "embedding": embedding, "width": width}
    return ResNet(Settings(kind=kind, **given), 3, 10, 0)


def linear(*widths, activation=nn.Identity):
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def convolutions(*, first, maps, inputs, pool, **arguments):
    layers, channels = [], first
    for width in maps:
        layers += [nn.Conv2d(channels, width, 5, **arguments), nn.ReLU(), deepcopy(pool)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs, 40), nn.ReLU(), nn.Linear(40, 10))


MODELS = {
    "LeNet-5": (lambda: convolutions(first=1, maps=(20, 50), inputs=800, pool=nn.MaxPool2d(2)), (1, 28, 28)),
    "ConvNet": (
        lambda: convolutions(first=3, maps=(32, 32, 64), inputs=256, pool=nn.AvgPool2d(3, 2, 1), padding=2),
        (3, 16, 16),
    ),
    **{kind: (lambda kind=kind: resnet(kind), (3, 16, 16))
       for kind in ("resnet8", "resnet20", "resnet56", "resnet18", "resnet50")},
    "resnet_pooled": (lambda: resnet("resnet8", embedding=False), (3, 16, 16)),
    "perceptron": (lambda: linear(64, 30, 20, 10, activation=nn.ReLU), (64,)),
    "deep_linear": (lambda: linear(12, 40, 40, 10), (12,)),
    "linear": (lambda: linear(12, 40, 10), (12,)),
}  # fmt: skip
"""Of each kind in models/; linear ones as modules. The variational ones' layers draw weights, and are not pruned."""


def drawn(name):
    """A network and inputs with nothing at a round value, normalisations least of all."""
    make, shape = MODELS[name]
    torch.manual_seed(0)
    network = make().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network, torch.randn(3, *shape)


def masks(network, example, ratio, kinds=("filter", "column")):
    generator, found = Generator().manual_seed(1), {}
    for kind in kinds:
        found[f"{kind}s"] = mine = {}
        for name in prunable(network, example, kind):
            count = len(Groups(network.get_submodule(name), kind))
            gone = torch.randperm(count, generator=generator)[: min(target(count, ratio), count - 1)]
            mine[name] = torch.ones(count, dtype=torch.bool).index_fill_(0, gone, False)
    return found


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.98])
@pytest.mark.parametrize("kinds", [("filter",), ("column",), ("filter", "column")], ids="-".join)
@pytest.mark.parametrize("name", MODELS)
def test_cut_is_masked(name, kinds, ratio):
    network, example = drawn(name)
    given = masks(network, example, ratio, kinds)
    before = deepcopy(network.state_dict())
    with torch.no_grad():
        expected = silenced(network, example, **given)(example)
        smaller = cut(network, example, **given)
        assert (smaller(example) - expected).abs().max() <= 1e-4 * expected.abs().max()
        assert not torch.allclose(network(example), expected, rtol=1e-3)  # something was masked
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not smaller.training
    for layer, alive in given.get("filters", {}).items():
        assert len(smaller.get_submodule(layer).weight) <= int(alive.sum())


def test_masked_weights_alone_are_another_network():
    """The control: without the normalisation's shift a removed filter's map is not 0."""
    network, example = drawn("resnet8")
    given = masks(network, example, 0.5, ("filter",))
    half = deepcopy(network)
    for name, alive in given["filters"].items():
        Groups(half.get_submodule(name), "filter").mask_(alive)
    with torch.no_grad():
        assert not torch.allclose(half(example), cut(network, example, **given)(example), rtol=1e-2, atol=1e-2)


def test_companions_are_what_silences_a_filter():
    network, example = drawn("resnet8")
    given = masks(network, example, 0.5, ("filter",))
    expected = silenced(network, example, **given)
    for name, alive in given["filters"].items():
        beside = companions(network, example, name)
        assert [tuple(tensor.shape) for tensor in beside] == [alive.shape] * 2
        Groups(network.get_submodule(name), "filter").mask_(alive, *beside)
    for mine, theirs in zip(network.state_dict().values(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"stages.0.0.conv2: has its outputs added to those of stem.0"):
        companions(network, example, "stages.0.0.conv2")


def test_filters_of_channels_without_columns_go_too():
    network, example = drawn("LeNet-5")
    alive = torch.ones(500, dtype=torch.bool)
    alive[25:75] = False  # the second and third of twenty channels
    alive[100] = False  # one of the fifth
    smaller = cut(network, example, columns={"3": alive})
    assert smaller[0].weight.shape == (18, 1, 5, 5)
    assert smaller[3].weight.shape == (50, 449)
    assert [*conv_macs(smaller, (1, 28, 28)).values()] == [18 * 25 * 576, 449 * 50 * 64]


def test_a_channel_that_something_else_needs_stays():
    network, example = drawn("resnet8")
    alive = torch.ones(72, dtype=torch.bool)
    alive[:9] = False  # of the stem's first map, which the shortcut passes on
    smaller = cut(network, example, columns={"stages.0.0.conv1": alive})
    assert smaller.stem[0].weight.shape == network.stem[0].weight.shape
    assert smaller.stages[0][0].conv1.weight.shape == (8, 63)


@pytest.mark.parametrize("name", ["LeNet-5", "resnet8"])
def test_a_saved_network_needs_nothing_of_ours(name, tmp_path):
    network, example = drawn(name)
    smaller = cut(network, example, **masks(network, example, 0.7))
    save(smaller, tmp_path / "cut.pt2", example)
    with torch.no_grad():
        for count in (1, 3):
            torch.testing.assert_close(load(tmp_path / "cut.pt2")(example[:count]), smaller(example[:count]))
    torch.save(example, tmp_path / "example.pt")
    torch.save(smaller(example).detach(), tmp_path / "expected.pt")
    code = f"""
import sys
sys.modules["repro"] = sys.modules["torch_pruning"] = None
import torch
example, expected = (torch.load(f"{tmp_path}/{{name}}.pt") for name in ("example", "expected"))
torch.testing.assert_close(torch.export.load("{tmp_path}/cut.pt2").module()(example), expected)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def ones(n, gone=()):
    return torch.ones(n, dtype=torch.bool).index_fill_(0, torch.tensor(gone, dtype=torch.long), False)


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("LeNet-5", {"filters": {"3": torch.zeros(50).bool()}}, "3: all 50 filters are to go; at least one must be"),
        ("LeNet-5", {"columns": {"0": torch.zeros(25).bool()}}, "0: all 25 columns are to go; at least one must be"),
        ("LeNet-5", {"filters": {"9": ones(10, [0])}}, "9: is the classifier, which is never pruned"),
        ("LeNet-5", {"columns": {"9": ones(40, [0])}}, "9: is the classifier, which is never pruned"),
        ("LeNet-5", {"filters": {"conv9": ones(10)}}, "conv9: is no convolution or linear layer of the network"),
        ("LeNet-5", {"filters": {"1": ones(10)}}, "1: is no convolution or linear layer of the network"),
        ("LeNet-5", {"filters": {"0": ones(19)}}, r"0: the mask must be 20 booleans, one a filter, got \(19,\) of"),
        ("LeNet-5", {"filters": {"0": torch.ones(20)}}, "of torch.float32"),
        ("resnet8", {"filters": {"head": ones(10, [0])}}, "head: is the classifier, which is never pruned"),
        ("resnet8", {"filters": {"embedding": ones(16, [0])}}, "embedding: makes the network's outputs; its filters"),
        ("resnet8", {"filters": {"stages.0.0.conv2": ones(8, [0])}}, "conv2: has its outputs added to those of stem.0"),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_is_said_in_one_line(model, given, message):
    network, example = drawn(model)
    with pytest.raises(ValueError, match=message) as error:
        cut(network, example, **given)
    assert "\n" not in str(error.value)


def test_what_does_not_keep_0_is_refused():
    network = linear(12, 40, 10, activation=nn.Sigmoid)
    with pytest.raises(ValueError, match="the cut network differs from the masked one: an activation may not keep 0"):
        cut(network, torch.randn(3, 12), filters={"0": ones(40, [1, 2])})
    with pytest.raises(ValueError, match=r"path must end in .pt2, got net.pt"):
        save(network, "net.pt", torch.randn(3, 12))
