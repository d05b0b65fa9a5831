"""The modules: their moments, their masks' shapes, and what they share over channels and samples."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision import ops

from repro.dropout import (
    Bernoulli,
    CorrelatedGaussian,
    DropBlock,
    DropBlock1d,
    DropBlock2d,
    DropConnect,
    FeatureDropout,
    OriginalDropBlock2d,
    OverlappingDropBlock,
)
from repro.dropout.original_dropblock import kept_fraction, torchvision_drop
from repro.dropout.structured import Settings as Structured
from repro.dropout.structured.masks import masks as structured


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


# one of each, and what it may be given
EVERY = {
    "features": (lambda: FeatureDropout(OverlappingDropBlock(8, 3, 0.5)), (4, 8)),
    "gaussian": (lambda: FeatureDropout(CorrelatedGaussian(8, 0.5, 0.4), "batch"), (4, 8)),
    "structured": (lambda: FeatureDropout(structured(Structured(scheme="structured"), 8, 1, 0.5, 1, 1)), (4, 8)),
    "last dimension": (lambda: DropBlock1d(3, 0.5), (4, 5, 8)),
    "maps": (lambda: DropBlock2d(3, 0.5), (4, 8, 6, 6)),
    "shared maps": (lambda: DropBlock2d(2, 0.5, "shared", "batch"), (4, 8, 6, 6)),
    "original": (lambda: OriginalDropBlock2d(3, 0.5), (4, 8, 6, 6)),
}


@pytest.mark.parametrize(("make", "shape"), EVERY.values(), ids=EVERY)
def test_nothing_is_dropped_in_evaluation_and_the_global_generator_serves_where_there_is_no_other(make, shape):
    layer, x = make(), torch.randn(shape)
    assert layer.eval()(x) is x
    torch.manual_seed(3)
    first = layer.train()(x)
    second = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(second, first)
    assert not torch.equal(first, x)
    before = torch.get_rng_state()
    seeded(layer)(x)
    assert torch.equal(torch.get_rng_state(), before)  # a generator of its own leaves the global one alone


@pytest.mark.parametrize(("make", "shape"), EVERY.values(), ids=EVERY)
def test_any_leading_shape(make, shape):
    layer = make()
    last = shape[-1:] if layer.LEAST == 1 else shape[-3:]
    for leading in [(), (5,), (2, 3), (2, 1, 3)]:
        x = torch.ones(*leading, *last)
        y = seeded(layer)(x)
        assert y.shape == x.shape
        flat = seeded(layer)(x.reshape(-1, *last))
        assert torch.equal(y.reshape(flat.shape), flat)


def test_blocks_of_the_last_dimension_are_those_of_the_distribution():
    x = torch.randn(50, 12)
    assert torch.equal(seeded(DropBlock1d(4, 0.7))(x), seeded(FeatureDropout(DropBlock(12, 4, 0.7)))(x))
    cut = seeded(DropBlock1d(5, 0.7))(torch.ones(4000, 12))
    for block in (cut[:, :5], cut[:, 5:10], cut[:, 10:]):
        assert torch.equal(block, block[:, :1].expand_as(block))
        assert float(block[:, 0].mean()) == pytest.approx(1, abs=0.05)
    assert len(seeded(DropBlock1d(5, 0.7, "batch"))(torch.ones(30, 12)).unique(dim=0)) == 1


def test_a_model_shows_copies_and_saves_them():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), DropBlock2d(2, 0.9), OriginalDropBlock2d(3, 0.8),
        nn.Flatten(), nn.Linear(72, 4), FeatureDropout(DropBlock(4, 2, 0.9)), DropBlock1d(2, 0.75),
    )  # fmt: skip
    shown = str(model)
    assert "DropBlock2d(block_size=2, retain=0.9, channels=own, mask_per=sample)" in shown
    assert "OriginalDropBlock2d(block_size=3, retain=0.8)" in shown
    assert "FeatureDropout(masks=DropBlock(width=4, block_size=2, retain=0.9), mask_per=sample)" in shown
    assert "DropBlock1d(block_size=2, retain=0.75, mask_per=sample)" in shown
    assert sorted(model.state_dict()) == ["0.bias", "0.weight", "4.bias", "4.weight"]  # as with torch's own
    x = torch.randn(5, 3, 5, 5)
    for generated in (False, True):
        if generated:
            seeded(model[5], 7)
        copied = copy.deepcopy(model)
        copied.load_state_dict(model.state_dict())
        torch.manual_seed(1)
        mine = model(x)
        torch.manual_seed(1)
        assert torch.equal(copied(x), mine)


@pytest.mark.parametrize(("make", "shape"), EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_autocast_and_every_precision_keep_the_type_and_the_masks(make, shape, dtype):
    x, layer = torch.ones(shape, dtype=dtype), make()
    plain = seeded(layer)(x)
    assert plain.dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        cast = seeded(layer)(x)
    assert cast.dtype == dtype
    assert torch.equal(cast, plain)


COMPILED = """
import torch
from repro.dropout import *
from torch import nn
torch.manual_seed(0)  # the shares below are of few units
layers = [
    (FeatureDropout(OverlappingDropBlock(8, 3, 0.5)), 8),
    (FeatureDropout(CorrelatedGaussian(8, 0.5, 0.4), "batch"), 8),
    (FeatureDropout(DropBlock(8, 2, 0.5)), 8),
    (DropBlock1d(3, 0.5), 8),
    (DropBlock2d(3, 0.5), (8, 6, 6)),
    (DropBlock2d(2, 0.5, "shared"), (8, 6, 6)),
    (OriginalDropBlock2d(3, 0.5), (8, 6, 6)),
]
for layer, size in layers:
    torch.compiler.reset()
    maps = not isinstance(size, int)
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1) if maps else nn.Linear(8, 8), layer)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for count in (4, 6):  # the second makes the batch a size that the graph does not know
        x = torch.randn(count, *(size if maps else (size,)))
        if maps:
            x, model = x.to(memory_format=torch.channels_last), model.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            first, second = compiled(x), compiled(x)
        assert not torch.equal(first, second), layer
        if maps:
            assert first.is_contiguous(memory_format=torch.channels_last), layer
        if "gaussian" not in str(layer).lower():
            assert 0.2 < (first == 0).float().mean() < 0.8, layer
        first.float().square().sum().backward()
    assert compiled.eval()(x).ne(0).all(), layer
for typed in ({"mask_per": "all"}, {"channels": "mine"}):
    try:
        DropBlock2d(2, 0.5, **typed)
    except ValueError as error:
        print(error)
print("compiled", len(layers))
"""


def test_one_graph_compiles_each():
    # in a process of its own: the tests' type checker is in every function here, and no graph takes it
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=200)
    assert done.stdout.splitlines() == [
        "mask_per must be one of sample, batch, got 'all'",
        "channels must be one of own, shared, got 'mine'",
        "compiled 7",
    ], done.stderr


@pytest.mark.parametrize("layer", [FeatureDropout(Bernoulli(8, 0.5)), DropBlock1d(2, 0.5), DropBlock2d(2, 0.5)])
def test_two_processes_draw_the_masks_of_one(layer):
    x = torch.ones(6, 8, 4, 4) if isinstance(layer, DropBlock2d) else torch.ones(6, 8)
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
    y = seeded(DropBlock2d(block_size, 0.6))(x)
    assert y.is_contiguous(memory_format=memory_format)
    factor = y / x
    for top in range(0, size[0], block_size):
        for left in range(0, size[1], block_size):
            square = factor[:, :, top : top + block_size, left : left + block_size].flatten(2)
            assert torch.allclose(square, square[..., :1].expand_as(square), atol=1e-5)
    assert torch.all((factor.abs() < 1e-6) | ((factor - 1 / 0.6).abs() < 1e-5))


def test_disjoint_squares_are_independent_with_mean_one():
    y = seeded(DropBlock2d(2, 0.8))(torch.ones(5000, 2, 4, 4)).double()
    squares = y[:, :, ::2, ::2].flatten(1)
    assert torch.allclose(squares.mean(0), torch.ones(8, dtype=torch.float64), atol=0.03)
    assert torch.allclose(squares.T.cov(), 0.25 * torch.eye(8, dtype=torch.float64), atol=0.03)


def test_disjoint_squares_share_what_they_are_told_to():
    x = torch.ones(20, 6, 4, 4)
    shared = seeded(DropBlock2d(2, 0.5, channels="shared"))(x)
    assert torch.equal(shared, shared[:, :1].expand_as(shared))
    batch = seeded(DropBlock2d(2, 0.5, mask_per="batch"))(x)
    assert torch.equal(batch, batch[:1].expand_as(batch))
    own = seeded(DropBlock2d(2, 0.5))(x)
    assert not torch.equal(own, own[:, :1].expand_as(own))
    assert not torch.equal(own, own[:1].expand_as(own))


def test_the_gradient_is_the_mask():
    x = torch.randn(3, 4, 6, 6, requires_grad=True)
    y = seeded(DropBlock2d(3, 0.5))(x)
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
    theirs = (ops.DropBlock2d(1 - retain, block_size)(torch.ones(500, 16, *size)) != 0).double().mean()
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
        (lambda: DropBlock2d(0, 0.5), "block_size must be at least 1, got 0"),
        (lambda: DropBlock2d(2, 1.0), r"retain must be in \(0, 1\)"),
        (lambda: OriginalDropBlock2d(4, 0.5), "block_size must be odd"),
        (lambda: DropBlock1d(0, 0.5), "block_size must be at least 1, got 0"),
        (lambda: FeatureDropout(DropConnect(4, 8, 0.5)), "masks must be of the units, got DropConnect"),
        (lambda: FeatureDropout(Bernoulli(8, 0.5))(torch.ones(4, 6)), r"of width 8, got shape \(4, 6\)"),
        (lambda: FeatureDropout(Bernoulli(8, 0.5))(torch.ones(())), r"takes floats of shape \(..., width\)"),
        (
            lambda: DropBlock2d(2, 0.5)(torch.ones(4, 8)),
            r"channels, height, width\), got torch.float32 \(4, 8\)",
        ),
        (lambda: DropBlock1d(2, 0.5)(torch.ones(4, 8, dtype=torch.int64)), "takes floats .*, got torch.int64"),
        (lambda: torchvision_drop(3, 8, 5, 0.5), "at most 3"),
        (lambda: torchvision_drop(7, 7, 3, 0.05), "retain must be at least 0.388"),
    ],
)
def test_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here: the modules on CUDA are not tested")
def test_on_cuda():
    x = torch.randn(4, 8, 6, 6, device="cuda")
    layer = DropBlock2d(3, 0.5)
    layer.generator = torch.Generator("cuda").manual_seed(0)
    y = layer(x)
    assert y.is_cuda
    assert torch.all((y == 0) | torch.isclose(y, 2 * x))
