"""Deterministic objectives against the expectation itself: a weighted sum over every mask."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from repro.theory import dropblock_objective, dropconnect_objective, expected_objective, retain_probability

FLOAT = torch.float64
OUTPUTS, INPUTS, WIDTH, SAMPLES = 3, 4, 6, 5


def network(seed: int = 0, batch: tuple[int, ...] = (), width: int = WIDTH) -> tuple[Tensor, ...]:
    """U, V, X, Y; X correlated, so that nothing holds by whitening."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=FLOAT)

    X = draw(INPUTS, INPUTS) @ draw(INPUTS, SAMPLES)
    return draw(*batch, OUTPUTS, width), draw(*batch, INPUTS, width), X, draw(OUTPUTS, SAMPLES)


def masks(count: int, retain: float) -> tuple[Tensor, Tensor]:
    """Every 0/1 vector and its probability."""
    z = torch.tensor(list(itertools.product((0.0, 1.0), repeat=count)), dtype=FLOAT)
    return z, (retain**z * (1 - retain) ** (1 - z)).prod(-1)


def loss(prediction: Tensor, Y: Tensor) -> Tensor:
    return (Y - prediction).square().sum((-2, -1))


def enumerated_dropblock(U, V, X, Y, block_size, retain) -> Tensor:
    z, probability = masks(U.shape[-1] // block_size, retain)
    scaled = z.repeat_interleave(block_size, -1).unsqueeze(-2) / retain
    return (probability * loss((U * scaled) @ V.mT @ X, Y)).sum()


@pytest.mark.parametrize("block_size", [1, 2, 3, 6])
@pytest.mark.parametrize("retain", [0.2, 0.9])
def test_dropblock_is_the_expectation(block_size, retain):
    U, V, X, Y = network()
    found = dropblock_objective(U, V, X, Y, block_size, retain)
    expected = enumerated_dropblock(U, V, X, Y, block_size, retain)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)
    # Controls: 1-θ in place of (1-θ)/θ, and blocks of another size, are far away.
    fit = loss(U @ V.mT @ X, Y)
    assert abs(fit + retain * (found - fit) - expected) > 1e-3 * expected
    other = 2 if block_size == 1 else 1
    assert abs(dropblock_objective(U, V, X, Y, other, retain) - expected) > 1e-3 * expected


def test_dropblock_is_what_masks_average_to():
    U, V, X, Y = network()
    z = (torch.rand(40_000, 3, generator=torch.Generator().manual_seed(1), dtype=FLOAT) < 0.6).to(FLOAT)
    scaled = z.repeat_interleave(2, -1).unsqueeze(-2) / 0.6
    draws = loss((U * scaled) @ (V.mT @ X), Y)
    expected, error = dropblock_objective(U, V, X, Y, 2, 0.6), draws.std() / len(draws) ** 0.5
    assert error < 0.01 * expected
    assert abs(draws.mean() - expected) < 3 * error


def enumerated_dropconnect(U, V, X, Y, retain, on) -> Tensor:
    masked = U if on == "U" else V
    z, probability = masks(masked.numel(), retain)
    scaled = z.reshape(-1, *masked.shape) / retain
    predictions = (U * scaled) @ V.mT @ X if on == "U" else U @ (V * scaled).mT @ X
    return (probability * loss(predictions, Y)).sum()


@pytest.mark.parametrize("on", ["U", "V"])
@pytest.mark.parametrize("retain", [0.3, 0.8])
def test_dropconnect_is_the_expectation(on, retain):
    U, V, X, Y = network(width=3)
    found = dropconnect_objective(U, V, X, Y, retain, on)
    torch.testing.assert_close(found, enumerated_dropconnect(U, V, X, Y, retain, on), rtol=1e-12, atol=0)


def test_dropconnect_is_dropout_on_u_and_on_v_only_for_diagonal_moments():
    U, V, X, Y = network()
    dropout = dropblock_objective(U, V, X, Y, 1, 0.5)
    torch.testing.assert_close(dropconnect_objective(U, V, X, Y, 0.5), dropout, rtol=1e-14, atol=0)
    assert abs(dropconnect_objective(U, V, X, Y, 0.5, on="V") - dropout) > 0.05 * dropout
    orthonormal = torch.linalg.qr(X.mT).Q.mT
    for rows in (orthonormal, orthonormal * torch.tensor([[1.0], [2.0], [5.0], [0.1]], dtype=FLOAT)):
        dropout = dropblock_objective(U, V, rows, Y, 1, 0.5)
        on_v = dropconnect_objective(U, V, rows, Y, 0.5, on="V")
        torch.testing.assert_close(on_v, dropout, rtol=1e-13, atol=0)


def test_expected_objective_is_the_expectation_for_any_distribution():
    U, V, X, Y = network()
    generator = torch.Generator().manual_seed(3)
    z = torch.rand(9, WIDTH, generator=generator, dtype=FLOAT) * 3
    probability = torch.rand(9, generator=generator, dtype=FLOAT).softmax(-1)
    mean = probability @ z
    covariance = (z - mean).mT @ torch.diag(probability) @ (z - mean)
    expected = (probability * loss((U * (z / mean).unsqueeze(-2)) @ V.mT @ X, Y)).sum()
    found = expected_objective(U, V, X, Y, mean, covariance)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)
    # Control: variances alone miss the correlations.
    assert abs(expected_objective(U, V, X, Y, mean, covariance.diag().diag()) - expected) > 0.01 * expected


@pytest.mark.parametrize("block_size", [1, 2, 3])
def test_dropblock_is_an_instance_of_expected_objective(block_size):
    U, V, X, Y = network()
    mean = torch.full((WIDTH,), 0.7, dtype=FLOAT)
    block = torch.full((block_size, block_size), 0.7 * 0.3, dtype=FLOAT)
    covariance = torch.block_diag(*[block] * (WIDTH // block_size))
    found = expected_objective(U, V, X, Y, mean, covariance)
    torch.testing.assert_close(found, dropblock_objective(U, V, X, Y, block_size, 0.7), rtol=1e-14, atol=0)


def test_retain_probability():
    assert retain_probability(0.3, 1, 1) == pytest.approx(0.3)
    assert retain_probability(0.8, 4, 4) == pytest.approx(0.8)  # p is the rate of one block alone
    for width, block_size, p in ((48, 8, 0.3), (80, 1, 0.95)):
        theta = retain_probability(p, width, block_size)
        assert theta == pytest.approx(p * block_size / (width - (width - block_size) * p))
        assert (1 - theta) / theta == pytest.approx(width / block_size * (1 - p) / p)
    several = retain_probability(torch.tensor([0.3, 0.9]), 8, 2)
    torch.testing.assert_close(several[1].item(), retain_probability(0.9, 8, 2), rtol=1e-6, atol=0)


def test_one_mean_and_covariance_serve_a_batch_of_networks():
    found = expected_objective(torch.stack([U, 2 * U]), V, X, Y, MEAN, COVARIANCE)
    for factor, value in zip((1, 2), found, strict=True):
        torch.testing.assert_close(value, expected_objective(factor * U, V, X, Y, MEAN, COVARIANCE))


@pytest.mark.parametrize("on", ["U", "V"])
def test_batched_is_looped(on):
    U, V, X, Y = network(batch=(2, 3))
    scale = torch.tensor([1.0, 3.0], dtype=FLOAT).view(2, 1, 1, 1)  # a batch of data too
    X, Y = X * scale, Y / scale
    retain = torch.tensor([0.2, 0.5, 0.9], dtype=FLOAT)
    mean = torch.linspace(0.2, 0.9, 3 * WIDTH, dtype=FLOAT).view(3, WIDTH)
    covariance = torch.eye(WIDTH, dtype=FLOAT) * retain.view(3, 1, 1) + 0.1
    dropblock = dropblock_objective(U, V, X, Y, 2, retain)
    dropconnect = dropconnect_objective(U, V, X, Y, retain, on=on)
    general = expected_objective(U, V, X, Y, mean, covariance)
    assert dropblock.shape == dropconnect.shape == general.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            one, theta = (U[i, j], V[i, j], X[i, 0], Y[i, 0]), retain[j].item()
            torch.testing.assert_close(dropblock[i, j], dropblock_objective(*one, 2, theta), rtol=1e-13, atol=0)
            torch.testing.assert_close(dropconnect[i, j], dropconnect_objective(*one, theta, on=on), rtol=1e-13, atol=0)
            expected = expected_objective(*one, mean[j], covariance[j])
            torch.testing.assert_close(general[i, j], expected, rtol=1e-13, atol=0)


def test_gradients_and_float32():
    parts = tuple(t.requires_grad_() for t in network(width=4))
    mean = torch.full((4,), 0.5, dtype=FLOAT, requires_grad=True)
    covariance = torch.eye(4, dtype=FLOAT, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *m: dropblock_objective(*m, 2, 0.4), parts)
    assert torch.autograd.gradcheck(lambda *m: dropconnect_objective(*m, 0.4, on="V"), parts)
    assert torch.autograd.gradcheck(expected_objective, (*parts, mean, covariance))
    small = tuple(t.detach().float() for t in parts)
    theta = torch.tensor(0.4, dtype=FLOAT)
    assert dropblock_objective(*small, 2, theta).dtype == torch.float32
    assert dropconnect_objective(*small, 0.4).dtype == torch.float32
    assert expected_objective(*small, mean.float(), covariance.float()).dtype == torch.float32


U, V, X, Y = network()
MEAN, COVARIANCE = torch.ones(WIDTH, dtype=FLOAT), torch.eye(WIDTH, dtype=FLOAT)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: retain_probability(0, 8, 2), r"p must be in \(0, 1\), ends excluded, got 0"),
        (lambda: retain_probability(1.0, 8, 2), r"p must be in \(0, 1\), ends excluded, got 1\.0"),
        (lambda: retain_probability(math.nan, 8, 2), r"p must be in \(0, 1\), ends excluded, got nan"),
        (
            lambda: retain_probability(torch.tensor([0.5, 2.0]), 8, 2),
            r"p must be in .* values from 0\.5 to 2\.0",
        ),
        (lambda: retain_probability(0.5, 9, 2), r"width must be a multiple of block_size 2, got 9"),
        (
            lambda: retain_probability(0.5, 8, 0),
            r"block_size must be at least 1 and divide the width 8, got 0",
        ),
        (lambda: retain_probability(0.5, 0, 1), r"width must be at least 1, got 0"),
        (lambda: dropblock_objective(U, V, X, Y, 4, 0.5), r"width must be a multiple of block_size 4, got 6"),
        (
            lambda: dropblock_objective(U, V, X, Y, 2, 1.5),
            r"retain must be in \(0, 1\), ends excluded, got 1\.5",
        ),
        (
            lambda: dropblock_objective(U, V[:, :5], X, Y, 2, 0.5),
            r"V must have 6 entries .* match U .*\(4, 5\)",
        ),
        (lambda: dropblock_objective(U, V, X[:3], Y, 2, 0.5), r"X must have 4 entries .* match V .*\(3, 5\)"),
        (lambda: dropblock_objective(U, V, X, Y[:2], 2, 0.5), r"Y must have 3 entries .* match U .*\(2, 5\)"),
        (
            lambda: dropblock_objective(U, V, X, Y[:, :4], 2, 0.5),
            r"Y must have 5 entries .* match X .*\(3, 4\)",
        ),
        (
            lambda: dropblock_objective(U, V, X[0], Y, 2, 0.5),
            r"X must have shape \(\*batch, rows, columns\).*\(5,\)",
        ),
        (lambda: dropblock_objective(U, V, X * math.nan, Y, 2, 0.5), r"X must be finite, got 20 NaN"),
        (
            lambda: dropblock_objective(U, V.float(), X, Y, 2, 0.5),
            r"V must have the dtype of U, torch\.float64",
        ),
        (
            lambda: dropblock_objective(U.expand(2, -1, -1), V.expand(3, -1, -1), X, Y, 2, 0.5),
            r"batch dimensions must broadcast .* U \(2,\), V \(3,\)",
        ),
        (
            lambda: dropblock_objective(U.expand(2, -1, -1), V, X, Y, 2, torch.full((3,), 0.5)),
            r"batch dimensions must broadcast .*retain \(3,\), U \(2,\)",
        ),
        (
            lambda: dropconnect_objective(U, V, X, Y, 0.0),
            r"retain must be in \(0, 1\), ends excluded, got 0\.0",
        ),
        (lambda: dropconnect_objective(U, V, X, Y, 0.5, on="W"), r"on must be 'U' or 'V', got 'W'"),
        (lambda: expected_objective(U, V, X, Y, MEAN[:5], COVARIANCE), r"mean must have 6 entries"),
        (
            lambda: expected_objective(U.expand(3, -1, -1), V, X, Y, MEAN.expand(2, -1), COVARIANCE),
            r"batch dimensions must broadcast .*mean \(2,\), U \(3,\)",
        ),
        (
            lambda: expected_objective(U, V, X, Y, MEAN[0], COVARIANCE),
            r"mean must have shape \(\*batch, width\)",
        ),
        (lambda: expected_objective(U, V, X, Y, MEAN, COVARIANCE[:5]), r"covariance must have 6 entries"),
        (lambda: expected_objective(U, V, X, Y, MEAN, COVARIANCE[:, :5]), r"covariance must have 6 entries"),
        (
            lambda: expected_objective(U, V, X, Y, MEAN, COVARIANCE[:, :5].expand(2, -1, -1)),
            r"covariance must have 6 entries in dimension -1",
        ),
        (
            lambda: expected_objective(U, V, X, Y, MEAN - 1, COVARIANCE),
            r"mean must be in \(0, inf\), got 0\.0",
        ),
        (lambda: expected_objective(U, V, X, Y, MEAN / 0, COVARIANCE), r"mean must be finite, got 6"),
        (lambda: expected_objective(U, V, X, Y, MEAN.float(), COVARIANCE), r"mean must have the dtype of U"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees():
    expected = dropblock_objective(U, V, X, Y, 2, 0.5)
    found = dropblock_objective(U.cuda(), V.cuda(), X.cuda(), Y.cuda(), 2, 0.5).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)
