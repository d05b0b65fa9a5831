"""The data of the linear experiments: what they promise about units, rank, correlation and whitening."""

from pathlib import Path

import pytest
import torch

from repro.data import digit_halves, linear
from repro.data.digit_halves import load as halves_module
from repro.data.mnist5k.load import mnist5k
from repro.data.synthetic import Settings
from repro.data.synthetic.load import load as drawn
from repro.pipeline.system.errors import UserError
from repro.theory import global_minimizer, target_spectrum

FLOAT = torch.float64
MNIST = Path(__file__).resolve().parents[3] / "shared" / "data"


def synthetic(**changes) -> Settings:
    values = {
        "kind": "synthetic", "in_features": 12, "out_features": 9, "samples": 300, "rank": 4,
        "noise": 0.0, "correlation": 0.0, "whiten": False, "seed": 0,
    }  # fmt: skip
    return Settings(**(values | changes))


def digits(**changes) -> digit_halves.Settings:
    return digit_halves.Settings(
        **({"kind": "digit_halves", "source": "mnist5k", "root": None, "whiten": False} | changes)
    )


@pytest.fixture(scope="module")
def halves():
    return linear.load(digits())


@pytest.mark.parametrize("changes", [{}, {"noise": 0.5}, {"whiten": True}, {"correlation": 0.9, "samples": 7}])
def test_both_have_largest_singular_value_one(changes):
    X, Y = linear.load(synthetic(**changes))
    assert X.dtype == Y.dtype == FLOAT
    assert float(torch.linalg.matrix_norm(X, 2)) == pytest.approx(1, rel=1e-12)
    assert float(torch.linalg.matrix_norm(Y, 2)) == pytest.approx(1, rel=1e-12)
    raw_X, raw_Y = drawn(synthetic(**changes))  # control
    assert torch.linalg.matrix_norm(raw_X, 2) > 2
    assert torch.linalg.matrix_norm(raw_Y, 2) > 2


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_the_target_is_linear_in_the_inputs_and_has_the_rank(rank):
    X, Y = linear.load(synthetic(rank=rank))
    assert int(torch.linalg.matrix_rank(Y)) == rank
    torch.testing.assert_close(Y @ torch.linalg.pinv(X) @ X, Y)
    noisy = linear.load(synthetic(rank=rank, noise=0.1))
    assert int(torch.linalg.matrix_rank(noisy.Y)) == 9
    assert (noisy.Y @ torch.linalg.pinv(X) @ X - noisy.Y).norm() > 1e-3


def test_noise_is_added_with_the_given_deviation():
    clean, noisy = drawn(synthetic(samples=5000))[1], drawn(synthetic(samples=5000, noise=0.3))[1]
    assert float((noisy - clean).std()) == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize("correlation", [0.0, 0.9, -0.5])
def test_features_correlate_as_told(correlation):
    X, _ = drawn(synthetic(correlation=correlation, samples=40_000))
    offset = (torch.arange(12)[:, None] - torch.arange(12)).abs()
    assert (X.cov() - correlation ** offset.double()).abs().max() < 0.04
    assert (X.cov() - 0.4 ** offset.double()).abs().max() > 0.3  # control


def test_the_seed_decides():
    first, again, other = (linear.load(synthetic(seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first.X, again.X)
    assert torch.equal(first.Y, again.Y)
    assert not torch.allclose(first.X, other.X)
    assert not torch.allclose(first.Y, other.Y)


def test_whitening_leaves_the_row_space_and_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(8, 5, generator=generator, dtype=FLOAT) @ torch.randn(5, 40, generator=generator, dtype=FLOAT)
    Y = torch.randn(6, 40, generator=generator, dtype=FLOAT)
    white = linear.whiten(X)
    assert white.shape == (5, 40)  # the rank of X
    torch.testing.assert_close(white @ white.mT, torch.eye(5, dtype=FLOAT))
    torch.testing.assert_close(white.mT @ white, torch.linalg.pinv(X) @ X)
    torch.testing.assert_close(target_spectrum(Y, white), target_spectrum(Y, X))
    plain, whitened = (global_minimizer(Y, x, 2, 0.7) for x in (X, white))
    torch.testing.assert_close(plain.objective, whitened.objective, rtol=1e-12, atol=0)
    torch.testing.assert_close(plain.prediction, whitened.prediction)
    # Controls: X itself is not white, and a direction less is another problem.
    assert (X @ X.mT / (X @ X.mT).diagonal().mean() - torch.eye(8)).abs().max() > 0.1
    assert abs(global_minimizer(Y, white[1:], 2, 0.7).objective - plain.objective) > 1e-3


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_whitened_data(correlation):
    X, Y = linear.load(synthetic(whiten=True, correlation=correlation))
    torch.testing.assert_close(X @ X.mT, torch.eye(12, dtype=FLOAT))
    plain = linear.load(synthetic(correlation=correlation))
    torch.testing.assert_close(Y, plain.Y)
    torch.testing.assert_close(target_spectrum(Y, X), target_spectrum(plain.Y, plain.X))
    assert (plain.X @ plain.X.mT - torch.eye(12)).abs().max() > 0.1


def test_digit_halves(halves):
    X, Y = halves
    assert X.shape == Y.shape == (392, 5000)
    assert X.dtype == Y.dtype == FLOAT
    for half in halves:
        assert half.mean(1).abs().max() < 1e-15
        assert float(torch.linalg.eigvalsh(half @ half.mT)[-1]) == pytest.approx(1, rel=1e-10)


def test_the_upper_half_is_X(halves):
    images = mnist5k().images[:, 0]
    assert images.shape == (5000, 28, 28)
    assert images.dtype == torch.uint8
    upper = images[:, :14].reshape(5000, -1).T.double()
    centred = upper - upper.mean(1, keepdim=True)
    torch.testing.assert_close(halves.X / halves.X.norm(), centred / centred.norm())
    assert (halves.Y / halves.Y.norm() - centred / centred.norm()).norm() > 0.5  # control
    ink = images.double().mean(0)
    assert ink[10:18, 10:18].mean() > 10 * ink[:3].mean()  # a digit stands in the middle, the right way round


def test_whitened_digits(halves):
    X = linear.whiten(halves.X)
    assert 200 < len(X) < 392  # pixels that are always black hold nothing
    torch.testing.assert_close(X @ X.mT, torch.eye(len(X), dtype=FLOAT), rtol=0, atol=1e-8)


@pytest.mark.skipif(not (MNIST / "MNIST").is_dir(), reason=f"needs MNIST in {MNIST}")
def test_all_of_mnist(monkeypatch):
    images = halves_module.mnist(str(MNIST))
    assert images.shape == (60_000, 28, 28)
    assert not torch.equal(images[:5000], mnist5k().images[:, 0])
    monkeypatch.setattr(halves_module, "mnist", lambda root: {str(MNIST): images[:3000]}[root])
    X, Y = halves_module.load(digits(source="mnist", root=str(MNIST)))
    assert X.shape == Y.shape == (392, 3000)


@pytest.mark.parametrize("root", [None, "nowhere"])
def test_missing_files_are_the_users_mistake(root, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data\.root=.*: holds no MNIST .*data\.source=mnist5k") as error:
        linear.load(digits(source="mnist", root=root))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
