"""The residual networks: sizes, and against torchvision's own."""

import pytest
import torch
import torchvision

from repro.models.resnet import Settings
from repro.models.resnet.build import ResNet

PUBLISHED = {"resnet20": 0.27e6, "resnet56": 0.85e6, "resnet110": 1.7e6}  # He et al. 2016, table 6


def model(kind="resnet8", **changes):
    channels = 64 if kind in ("resnet18", "resnet50") else 16
    settings = {"width": 64, "embedding": True, "channels": channels, "width_factor": 1.0, "stem_stride": 1} | changes
    return ResNet(Settings(kind=kind, **settings), 3, 10, 0)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_as_many_parameters_as_published(kind):
    count = sum(p.numel() for p in model(kind, embedding=False).parameters())
    assert count == pytest.approx(PUBLISHED[kind], rel=0.03)


@pytest.mark.parametrize(("kind", "width"), [("resnet18", 512), ("resnet50", 2048)])
def test_torchvisions_networks_behind_a_small_stem(kind, width):
    ours = model(kind, width=width, embedding=False)
    theirs = getattr(torchvision.models, kind)(num_classes=10)
    theirs.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool = torch.nn.Identity()
    theirs.fc = torch.nn.Linear(width, 10, bias=False)
    with torch.no_grad():
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            b.copy_(a)
    x = torch.randn(2, 3, 16, 16)
    outputs = ours.eval().features(x) @ ours.head.weight.mT
    assert torch.allclose(outputs, theirs.eval()(x), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["resnet8", "resnet20"])
@pytest.mark.parametrize("embedding", [True, False])
def test_features_have_the_width_and_pooled_ones_are_not_negative(kind, embedding):
    features = model(kind, embedding=embedding).features(torch.randn(4, 3, 16, 16))
    assert features.shape == (4, 64)
    assert bool((features < 0).any()) is embedding


def test_the_seed_is_the_start_and_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, same = model(), model()
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    other = ResNet(
        Settings(kind="resnet8", width=64, embedding=True, channels=16, width_factor=1.0, stem_stride=1), 3, 10, 1
    )
    assert not torch.equal(one.head.weight, other.head.weight)


def test_map_dropout_is_asked_for_every_stage():
    asked = []

    def make(stage):
        asked.append(stage)
        return torch.nn.Identity()

    ResNet(
        Settings(kind="resnet18", width=64, embedding=True, channels=8, width_factor=1.0, stem_stride=1),
        3,
        10,
        0,
        make,
    )
    assert asked == [-4, -3, -2, -1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 48, "embedding": False}, "model.width=48: must be 64, the channels of the last stage"),
        ({"width_factor": 0.25}, "model.width_factor=0.25: leaves 4 channels, must leave 8"),
    ],
)
def test_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        model(**changes)
