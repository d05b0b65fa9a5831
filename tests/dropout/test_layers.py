"""The modules: their moments, their masks' shapes, and what they share over channels and samples."""

import pytest
import torch
from torchvision.ops import DropBlock2d

from repro.dropout import Bernoulli, DropBlock, OverlappingDropBlock
from repro.dropout.layers import DisjointDropBlock2d, FeatureDropout
from repro.dropout.original_dropblock import OriginalDropBlock2d, kept_fraction, torchvision_drop


def seeded(module, seed=0):
    module.generator = torch.Generator().manual_seed(seed)
    return module


@pytest.mark.parametrize("masks", [Bernoulli(12, 0.7), DropBlock(12, 3, 0.7), OverlappingDropBlock(12, 4, 0.7)])
@pytest.mark.parametrize("mask_per", ["sample", "batch"])
def test_feature_dropout_has_the_distributions_moments(masks, mask_per):
    layer = seeded(FeatureDropout(masks, mask_per))
    count = 4000 if mask_per == "batch" else 40_000
    ones = torch.ones(1 if mask_per == "batch" else count, 12)
    draws = torch.cat([layer(ones) for _ in range(count // len(ones))]).double()
    tolerance = 8 / count**0.5
    assert torch.allclose(draws.mean(0), torch.ones(12, dtype=torch.float64), atol=tolerance)
    assert torch.allclose(draws.T.cov(), masks.relative_covariance, atol=tolerance)


def test_feature_dropout_says_what_it_shares():
    ones = torch.ones(50, 12)
    assert len(seeded(FeatureDropout(Bernoulli(12, 0.5), "batch"))(ones).unique(dim=0)) == 1
    assert len(seeded(FeatureDropout(Bernoulli(12, 0.5), "sample"))(ones).unique(dim=0)) > 40


@pytest.mark.parametrize(
    "layer",
    [FeatureDropout(Bernoulli(8, 0.5)), DisjointDropBlock2d(2, 0.5), OriginalDropBlock2d(3, 0.5)],
    ids=lambda layer: type(layer).__name__,
)
def test_nothing_is_dropped_in_evaluation_and_no_generator_is_an_error(layer):
    x = torch.randn(4, 8) if isinstance(layer, FeatureDropout) else torch.randn(4, 8, 6, 6)
    assert layer.eval()(x) is x
    with pytest.raises(RuntimeError, match=r"set \.generator"):
        layer.train()(x)


@pytest.mark.parametrize("layer", [FeatureDropout(Bernoulli(8, 0.5)), DisjointDropBlock2d(2, 0.5)])
def test_two_processes_draw_the_masks_of_one(layer):
    x = torch.ones(6, 8) if isinstance(layer, FeatureDropout) else torch.ones(6, 8, 4, 4)
    whole = seeded(layer)(x)
    parts = []
    for rank in (0, 1):
        layer.shard = (rank, 2)
        parts.append(seeded(layer)(x[:3]))
    layer.shard = (0, 1)
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(parts[0], parts[1])


@pytest.mark.parametrize("size", [(6, 6), (7, 6), (6, 7), (5, 8)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("block_size", [1, 2, 3, 4, 9])
def test_disjoint_squares_on_any_map(size, memory_format, block_size):
    x = torch.randn(3, 5, *size).contiguous(memory_format=memory_format)
    y = seeded(DisjointDropBlock2d(block_size, 0.6))(x)
    assert y.is_contiguous(memory_format=memory_format)
    factor = y / x
    for top in range(0, size[0], block_size):
        for left in range(0, size[1], block_size):
            square = factor[:, :, top : top + block_size, left : left + block_size].flatten(2)
            assert torch.allclose(square, square[..., :1].expand_as(square), atol=1e-5)
    assert torch.all((factor.abs() < 1e-6) | ((factor - 1 / 0.6).abs() < 1e-5))


def test_disjoint_squares_are_independent_with_mean_one():
    y = seeded(DisjointDropBlock2d(2, 0.8))(torch.ones(5000, 2, 4, 4)).double()
    squares = y[:, :, ::2, ::2].flatten(1)
    assert torch.allclose(squares.mean(0), torch.ones(8, dtype=torch.float64), atol=0.03)
    assert torch.allclose(squares.T.cov(), 0.25 * torch.eye(8, dtype=torch.float64), atol=0.03)


def test_disjoint_squares_share_what_they_are_told_to():
    x = torch.ones(20, 6, 4, 4)
    shared = seeded(DisjointDropBlock2d(2, 0.5, channels="shared"))(x)
    assert torch.equal(shared, shared[:, :1].expand_as(shared))
    batch = seeded(DisjointDropBlock2d(2, 0.5, mask_per="batch"))(x)
    assert torch.equal(batch, batch[:1].expand_as(batch))
    own = seeded(DisjointDropBlock2d(2, 0.5))(x)
    assert not torch.equal(own, own[:, :1].expand_as(own))
    assert not torch.equal(own, own[:1].expand_as(own))


def test_the_gradient_is_the_mask():
    x = torch.randn(3, 4, 6, 6, requires_grad=True)
    y = seeded(DisjointDropBlock2d(3, 0.5))(x)
    y.sum().backward()
    assert torch.allclose(x.grad * x, y)


@pytest.mark.parametrize(("size", "block_size"), [((15, 15), 5), ((7, 7), 3), ((6, 9), 3)])
@pytest.mark.parametrize("retain", [0.9, 0.7])
def test_the_original_keeps_what_it_is_asked_to(size, block_size, retain):
    layer = seeded(OriginalDropBlock2d(block_size, retain))
    kept = torch.cat([(layer(torch.ones(100, 16, *size)) != 0).double() for _ in range(5)])
    assert float(kept.mean()) == pytest.approx(retain, abs=0.01)
    # negative control: torchvision's own p keeps more, because it overlooks overlaps and the border
    torch.manual_seed(0)  # theirs draws from the global generator
    theirs = (DropBlock2d(1 - retain, block_size)(torch.ones(500, 16, *size)) != 0).double().mean()
    assert float(theirs) > retain + 0.002


def test_the_original_leaves_the_global_generator_alone_and_repeats_itself():
    x = torch.ones(4, 3, 7, 7)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = seeded(OriginalDropBlock2d(3, 0.5))(x)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(seeded(OriginalDropBlock2d(3, 0.5))(x), first)
    assert not torch.equal(seeded(OriginalDropBlock2d(3, 0.5), 1)(x), first)


def test_kept_fraction_of_no_and_of_every_seed():
    assert kept_fraction(8, 8, 3, 0.0) == 1
    assert kept_fraction(8, 8, 3, 1.0) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DisjointDropBlock2d(0, 0.5), "block_size must be at least 1, got 0"),
        (lambda: DisjointDropBlock2d(2, 1.0), r"retain must be in \(0, 1\)"),
        (lambda: OriginalDropBlock2d(4, 0.5), "block_size must be odd"),
        (lambda: torchvision_drop(3, 8, 5, 0.5), "at most 3"),
        (lambda: torchvision_drop(7, 7, 3, 0.05), "retain must be at least 0.388"),
    ],
)
def test_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here: the modules on CUDA are not tested")
def test_on_cuda():
    x = torch.randn(4, 8, 6, 6, device="cuda")
    layer = DisjointDropBlock2d(3, 0.5)
    layer.generator = torch.Generator("cuda").manual_seed(0)
    y = layer(x)
    assert y.is_cuda
    assert torch.all((y == 0) | torch.isclose(y, 2 * x))
