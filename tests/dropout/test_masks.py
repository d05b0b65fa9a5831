"""Mask distributions against enumeration: every mask, or every set of seeds, with its probability."""

import itertools

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from repro.dropout import Bernoulli, CorrelatedGaussian, DropBlock, DropConnect, OverlappingDropBlock
from repro.theory import expected_objective

FLOAT = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def outcomes(coins: int, heads: float) -> tuple[Tensor, Tensor]:
    """All results of independent coins, (2^coins, coins), and their probabilities."""
    coin = torch.tensor(list(itertools.product((0.0, 1.0), repeat=coins)), dtype=FLOAT)
    return coin, (heads**coin * (1 - heads) ** (1 - coin)).prod(-1)


def enumerated(masks) -> tuple[Tensor, Tensor]:
    """Every mask, flattened, and its probability, from the definition of the scheme."""
    if isinstance(masks, DropBlock):
        kept, probability = outcomes(masks.width // masks.block_size, masks.retain)
        return torch.stack([torch.tensor([w[i // masks.block_size] for i in range(masks.width)]) for w in kept]), (
            probability
        )
    if isinstance(masks, OverlappingDropBlock):
        seeds, probability = outcomes(masks.width - masks.block_size + 1, masks.seed_probability)
        z = torch.ones(len(seeds), masks.width, dtype=FLOAT)
        for mask, fallen in zip(z, seeds, strict=True):
            for start in fallen.nonzero().flatten():
                mask[start : start + masks.block_size] = 0
        return z, probability
    return outcomes(masks.mean.numel(), masks.retain)


def moments(z: Tensor, probability: Tensor) -> tuple[Tensor, Tensor]:
    mean = probability @ z
    return mean, (z - mean).mT @ (probability[:, None] * (z - mean))


ENUMERABLE = [
    Bernoulli(1, 0.5),
    Bernoulli(6, 0.3),
    DropBlock(6, 1, 0.7),
    DropBlock(6, 3, 0.2),
    DropBlock(6, 6, 0.9),
    DropConnect(2, 3, 0.4),
    DropConnect(3, 2, 0.8, "V"),
    OverlappingDropBlock(7, 3, 0.6),
    OverlappingDropBlock(7, 2, 0.15),  # even, and 2 does not divide 7
    OverlappingDropBlock(8, 4, 0.9),
    OverlappingDropBlock(7, 5, 0.5),  # the middle is covered by every position
    OverlappingDropBlock(5, 5, 0.3),
]
ALL = [*ENUMERABLE, CorrelatedGaussian(6, 0.6, 0.7), CorrelatedGaussian(5, 0.8, -0.4), CorrelatedGaussian(4, 0.5)]


@pytest.mark.parametrize("masks", ENUMERABLE, ids=repr)
def test_moments_are_those_of_all_masks(masks):
    mean, covariance = moments(*enumerated(masks))
    assert masks.mean.shape == masks.shape
    torch.testing.assert_close(masks.mean.flatten(), mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(masks.covariance, covariance, rtol=1e-12, atol=1e-14)
    relative = covariance / torch.outer(mean, mean)
    torch.testing.assert_close(masks.relative_covariance, relative, rtol=1e-12, atol=1e-14)


def test_the_enumeration_tells_schemes_apart():
    """The control: neighbouring schemes of the same θ fail the comparison above by far."""
    mean, covariance = moments(*enumerated(OverlappingDropBlock(6, 3, 0.5)))
    assert (mean - DropBlock(6, 3, 0.5).mean).abs().max() > 0.05
    assert (covariance - DropBlock(6, 3, 0.5).covariance).abs().max() > 0.05
    _, covariance = moments(*enumerated(DropBlock(6, 3, 0.5)))
    assert (covariance - Bernoulli(6, 0.5).covariance).abs().max() > 0.2
    assert (covariance - DropBlock(6, 2, 0.5).covariance).abs().max() > 0.2


def standard_distances(masks, z: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of the empirical mean and covariance of z (count, n) from `masks`' own, in standard errors."""
    count, z = len(z), z.flatten(1).double()
    mean, covariance = masks.mean.flatten(), masks.covariance
    products = (z - mean)[:, :, None] * (z - mean)[:, None]
    # An entry of no variance at all, as z_i² of a single ±, has no standard error.
    error = products.std(0).clamp_min(1e-9) / count**0.5
    return (z.mean(0) - mean) * count**0.5 / covariance.diagonal().sqrt(), (products.mean(0) - covariance) / error


@pytest.mark.parametrize("masks", ALL, ids=repr)
def test_samples_have_these_moments(masks):
    z = masks.sample(40_000, seeded(3), FLOAT)
    assert z.shape == (40_000, *masks.shape)
    for distance in standard_distances(masks, z):
        assert distance.abs().max() < 4.5
    if len(masks.covariance) == 1:
        return
    # Control: the same units drawn independently of each other, or all as one, are far away.
    flat = z.flatten(1)
    order = seeded(4)
    shuffled = torch.stack([column[torch.randperm(len(z), generator=order)] for column in flat.T], 1)
    together = flat[:, :1].expand_as(flat)
    assert max(standard_distances(masks, wrong)[1].abs().max() for wrong in (shuffled, together)) > 20


def test_gaussian_noise_is_as_strong_as_dropout():
    masks = CorrelatedGaussian(4, 0.8, 0.5)
    ratio = Bernoulli(4, 0.8).relative_covariance
    torch.testing.assert_close(masks.relative_covariance.diagonal(), ratio.diagonal())
    torch.testing.assert_close(masks.covariance[0], 0.25 * torch.tensor([1, 0.5, 0.25, 0.125], dtype=FLOAT))
    torch.testing.assert_close(CorrelatedGaussian(4, 0.8).relative_covariance, ratio)


@pytest.mark.parametrize("masks", ALL, ids=repr)
def test_samples_come_from_the_generator_alone(masks):
    first, again = masks.sample(5, seeded(1)), masks.sample(5, seeded(1))
    torch.manual_seed(9)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert torch.equal(first, masks.sample(5, seeded(1)))
    assert not torch.equal(masks.sample(50, seeded(1)), masks.sample(50, seeded(2)))


@pytest.mark.parametrize("masks", ENUMERABLE, ids=repr)
def test_both_precisions_draw_the_same_masks(masks):
    single, double = masks.sample(200, seeded(1), torch.float32), masks.sample(200, seeded(1), FLOAT)
    assert (single.dtype, double.dtype) == (torch.float32, FLOAT)
    assert torch.equal(single.double(), double)
    assert set(double.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("masks", ALL, ids=repr)
def test_normalized_samples_have_mean_one(masks):
    normalized = masks.sample_normalized(7, seeded(2), FLOAT)
    torch.testing.assert_close(normalized, masks.sample(7, seeded(2), FLOAT) / masks.mean, rtol=1e-14, atol=0)


@pytest.mark.parametrize("masks", [m for m in ALL if m.target == "hidden"], ids=repr)
def test_sampled_moments_are_those_of_the_samples(masks):
    count, size = 3, 5
    z = masks.sample_normalized(count * size, seeded(6), FLOAT)
    mean, second = masks.sample_moments(count, size, seeded(6), FLOAT)
    groups = z.split(size)
    torch.testing.assert_close(mean, torch.stack([g.mean(0) for g in groups]))
    torch.testing.assert_close(second, torch.stack([torch.einsum("ni,nj->ij", g, g) / size for g in groups]))
    # Control: the same masks grouped otherwise.
    if masks.width > 1:
        assert not torch.allclose(mean, z.view(size, count, -1).mean(0))


@pytest.mark.parametrize(("width", "block_size"), [(9, 1), (9, 2), (10, 4), (7, 7)])
@pytest.mark.parametrize("retain", [0.01, 0.5, 0.99])
def test_overlapping_blocks_keep_theta_on_average(width, block_size, retain):
    masks = OverlappingDropBlock(width, block_size, retain)
    assert float(masks.mean.mean()) == pytest.approx(retain, rel=1e-12)
    if 1 < block_size < width:
        # Units at the edge have fewer blocks over them: the rate of the middle, (1−γ)^r, is below θ.
        assert masks.mean.max() > retain > masks.mean.min()
        assert float(masks.mean[0]) == pytest.approx(1 - masks.seed_probability)


def test_overlapping_blocks_of_one_unit_are_dropout():
    overlapping, dropout = OverlappingDropBlock(6, 1, 0.3), Bernoulli(6, 0.3)
    torch.testing.assert_close(overlapping.mean, dropout.mean)
    torch.testing.assert_close(overlapping.covariance, dropout.covariance)
    assert overlapping.seed_probability == pytest.approx(0.7)
    assert not torch.allclose(OverlappingDropBlock(6, 2, 0.3).covariance, dropout.covariance)


def test_one_block_over_all_units_is_one_coin():
    for masks in (OverlappingDropBlock(5, 5, 0.3), DropBlock(5, 5, 0.3)):
        torch.testing.assert_close(masks.covariance, torch.full((5, 5), 0.21, dtype=FLOAT))


def test_targets():
    assert {m.target for m in ALL if not isinstance(m, DropConnect)} == {"hidden"}
    assert DropConnect(2, 3, 0.5).target == "U"
    assert DropConnect(2, 3, 0.5, "V").target == "V"


@pytest.mark.parametrize("retain", [0.0, 1.0, -0.1, 1.5, float("nan")])
@pytest.mark.parametrize(
    "make",
    [
        lambda retain: Bernoulli(4, retain),
        lambda retain: DropBlock(4, 2, retain),
        lambda retain: OverlappingDropBlock(4, 2, retain),
        lambda retain: DropConnect(4, 2, retain),
        lambda retain: CorrelatedGaussian(4, retain),
    ],
)
def test_retain_lies_between_zero_and_one(make, retain):
    assert make(0.5).retain == 0.5
    with pytest.raises(ValueError, match=rf"retain must be in \(0, 1\).*{retain}"):
        make(retain)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bernoulli(0, 0.5), "width must be at least 1"),
        (lambda: DropBlock(6, 4, 0.5), "width must be a multiple of block_size 4, got 6"),
        (lambda: DropBlock(6, 0, 0.5), "block_size must be at least 1"),
        (lambda: DropBlock(6, 12, 0.5), "multiple of block_size 12"),
        (lambda: OverlappingDropBlock(6, 0, 0.5), "block_size = 0 must lie in 1 … width = 6"),
        (lambda: OverlappingDropBlock(6, 7, 0.5), "block_size = 7 must lie in 1 … width = 6"),
        (lambda: CorrelatedGaussian(6, 0.5, 1.0), "correlation = 1.0 must lie in"),
        (lambda: CorrelatedGaussian(6, 0.5, -1.0), "correlation = -1.0 must lie in"),
    ],
)
def test_impossible_shapes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# properties, for any distribution


@st.composite
def distributions(draw):
    """Any distribution of at most eight units, or entries, that can be enumerated."""
    width, retain = draw(st.integers(1, 8)), draw(st.floats(0.02, 0.98))
    size = draw(st.integers(1, width))
    kinds = [Bernoulli(width, retain), OverlappingDropBlock(width, size, retain)]
    kinds += [DropBlock(width, size, retain)] if width % size == 0 else []
    kinds += [DropConnect(size, width // size, retain, draw(st.sampled_from(["U", "V"])))] if width >= size else []
    return draw(st.sampled_from(kinds))


@given(distributions())
@settings(max_examples=100, deadline=None)
def test_moments_of_any_distribution_are_those_of_all_its_masks(masks):
    mean, covariance = moments(*enumerated(masks))
    torch.testing.assert_close(masks.mean.flatten(), mean, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(masks.covariance, covariance, rtol=1e-9, atol=1e-13)


@given(distributions())
@settings(max_examples=60, deadline=None)
def test_any_covariance_is_one(masks):
    """Symmetric, positive semi-definite, with the variance of a Bernoulli variable on its diagonal."""
    C, mean = masks.covariance, masks.mean.flatten()
    torch.testing.assert_close(C, C.mT, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(C.diagonal(), mean * (1 - mean), rtol=1e-9, atol=1e-13)
    assert torch.linalg.eigvalsh(C)[0] > -1e-12


@given(st.integers(1, 7), st.floats(0.05, 0.95), st.floats(-0.95, 0.95))
@settings(max_examples=60, deadline=None)
def test_any_gaussian_has_the_strength_of_dropout_and_the_correlation_asked_for(width, retain, correlation):
    masks = CorrelatedGaussian(width, retain, correlation)
    strength = (1 - retain) / retain
    distance = (torch.arange(width)[:, None] - torch.arange(width)).abs()
    expected = strength * torch.tensor(correlation, dtype=FLOAT) ** distance
    torch.testing.assert_close(masks.relative_covariance, expected, rtol=1e-9, atol=1e-12)
    assert torch.linalg.eigvalsh(masks.covariance)[0] > -1e-10


@given(distributions(), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_objective_of_any_distribution_is_its_expectation(masks, seed):
    """‖Y − U diag(z/μ) VᵀX‖² averaged over every mask is the deterministic objective (Section 3)."""
    assume(masks.target == "hidden")
    generator = seeded(seed)
    a, b, N, d = 3, 4, 5, masks.width
    U, V, X, Y = (torch.randn(*s, generator=generator, dtype=FLOAT) for s in ((a, d), (b, d), (b, N), (a, N)))
    z, probability = enumerated(masks)
    losses = torch.stack([(Y - (U * (mask / masks.mean)) @ V.mT @ X).square().sum() for mask in z])
    found = expected_objective(U, V, X, Y, masks.mean, masks.covariance)
    assert float(found) == pytest.approx(float(probability @ losses), rel=1e-9)
    # Control: the data fit alone falls short of it by the penalty, which is positive.
    assert float((Y - U @ V.mT @ X).square().sum()) < float(found)
