"""Structured Gaussian noise: exact moments, and what its own settings allow."""

import pytest
import torch

from repro.dropout import CorrelatedGaussian, StructuredGaussian
from repro.dropout.structured import Settings
from repro.dropout.structured.masks import masks as from_settings
from repro.pipeline import settings
from repro.pipeline.system.errors import UserError

FLOAT = torch.float64
WIDTH = 5


def noise(reflections=2, noise_mean="centred", seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(reflections, WIDTH, generator=generator, dtype=FLOAT)
    rates = torch.rand(WIDTH, generator=generator, dtype=FLOAT) + 0.1
    return StructuredGaussian(rates, vectors, noise_mean)


@pytest.mark.parametrize("noise_mean", ["centred", "rotated"])
@pytest.mark.parametrize("reflections", [0, 1, 3, WIDTH])
def test_moments(reflections, noise_mean):
    masks = noise(reflections, noise_mean)
    U = torch.eye(WIDTH, dtype=FLOAT)
    for v in masks.vectors:
        U = (torch.eye(WIDTH, dtype=FLOAT) - 2 * torch.outer(v, v) / (v @ v)) @ U
    mean = U.sum(-1) if noise_mean == "rotated" else torch.ones(WIDTH, dtype=FLOAT)
    covariance = (U * masks.rates) @ U.mT
    torch.testing.assert_close(masks.mean, mean, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(masks.covariance, covariance, rtol=1e-12, atol=1e-13)
    z = masks.sample(100_000, torch.Generator().manual_seed(1), FLOAT)
    centred = z - mean
    products = centred[:, :, None] * centred[:, None]
    assert ((z.mean(0) - mean).abs() * len(z) ** 0.5 / covariance.diagonal().sqrt()).max() < 4
    distance = (products.mean(0) - covariance).abs() * len(z) ** 0.5 / products.std(0)
    assert distance.max() < 4.5
    if reflections > 1:  # the control: rates without the rotation
        assert ((products.mean(0) - masks.rates.diag()).abs() * len(z) ** 0.5 / products.std(0)).max() > 20


def test_without_reflections_it_is_independent_gaussian_noise():
    masks = StructuredGaussian(torch.full((WIDTH,), 0.25, dtype=FLOAT), torch.zeros(0, WIDTH, dtype=FLOAT))
    other = CorrelatedGaussian(WIDTH, 0.8)
    assert masks.retain == pytest.approx(0.8)
    torch.testing.assert_close(masks.covariance, other.covariance)
    first, second = (m.sample(7, torch.Generator().manual_seed(3), FLOAT) for m in (masks, other))
    torch.testing.assert_close(first, second)


def test_its_strength_is_that_of_dropout():
    for noise_mean in ("centred", "rotated"):
        masks = from_settings(Settings(scheme="structured", noise_mean=noise_mean), 6, 1, 0.8, 3, 4)
        assert masks.retain == pytest.approx(0.8)
        assert masks.with_retain(0.5).retain == pytest.approx(0.5)
        assert float(masks.rates.max() / masks.rates.min()) == pytest.approx(10)


def test_its_name_tells_it_apart():
    assert repr(noise()) == repr(noise())
    assert len({repr(noise()), repr(noise(seed=1)), repr(noise(1)), repr(noise(noise_mean="rotated"))}) == 4


RATES = torch.ones(WIDTH, dtype=FLOAT)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StructuredGaussian(RATES, torch.ones(WIDTH + 1, WIDTH)), "vectors must be at most 5"),
        (lambda: StructuredGaussian(RATES, torch.ones(1, WIDTH + 1)), "vectors must have shape"),
        (lambda: StructuredGaussian(RATES, torch.zeros(1, WIDTH)), "vectors must not be zero"),
        (lambda: StructuredGaussian(0 * RATES, torch.ones(1, WIDTH)), "rates must be positive"),
        (lambda: StructuredGaussian(RATES[None], torch.ones(1, WIDTH)), "rates must have shape"),
        (lambda: StructuredGaussian(RATES, torch.ones(1, WIDTH), "both"), "noise_mean must be centred or rotated"),
        (lambda: noise().with_retain(1.0), "retain must be in"),
    ],
)
def test_what_is_no_such_noise_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_it_is_chosen_as_any_noise():
    config = settings.load(["experiment=any_dropout", "scale=smoke", "dropout=structured", "dropout.retain=0.7"])
    assert config.dropout.scheme == ("structured",)
    assert config.dropout.noises()[0].reflections == 2
    with pytest.raises(UserError, match=r"^dropout.reflections=49: must be at most model.width=48$"):
        settings.load(["experiment=any_dropout", "scale=smoke", "dropout=structured", "dropout.reflections=49"])
    with pytest.raises(UserError, match=r"dropout.spread"):
        settings.load(["experiment=any_dropout", "scale=smoke", "dropout=structured", "dropout.spread=0.5"])
