"""Errors of points against numbers by hand, and what is refused."""

import numpy as np
import pytest
import torch

from repro.theory import error_auc, error_share, landmark_errors

SQUARE = torch.tensor([0.0, 0.0, 3.0, 0.0, 3.0, 4.0, 0.0, 4.0], dtype=torch.float64)  # its diagonal is 5
RIGHT = np.array([1.0, 0.0])


def test_distance_over_the_diagonal():
    moved = SQUARE + torch.tensor([3.0, 4.0]).repeat(4)  # every point by 5
    assert float(landmark_errors(moved, SQUARE)) == pytest.approx(1.0, abs=1e-15)
    assert float(landmark_errors(moved / 100, SQUARE / 100)) == pytest.approx(1.0, abs=1e-14)
    one = SQUARE.clone()
    one[0] += 2.0
    torch.testing.assert_close(landmark_errors(torch.stack([one, SQUARE]), SQUARE.expand(2, -1)),
                               torch.tensor([0.1, 0.0], dtype=torch.float64))  # fmt: skip


def test_distance_of_the_eyes_on_faces():
    generator = np.random.default_rng(0)
    face = generator.normal(size=(68, 2))
    face[36], face[45] = (1.0, 3.0), (1.0, 5.0)  # the outer corners of the 68 points of 300-W
    found = landmark_errors((face + RIGHT).reshape(-1), face.reshape(-1))
    assert float(found) == pytest.approx(0.5, abs=1e-14)
    assert float(landmark_errors((face[:67] + RIGHT).reshape(-1), face[:67].reshape(-1))) != pytest.approx(0.5)


def test_the_area_has_its_three_values():
    assert float(error_auc(torch.zeros(7, dtype=torch.float64))) == 100
    assert float(error_auc(torch.tensor([0.5, 0.7, 3.0], dtype=torch.float64))) == 0
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 2000
    assert float(error_auc(uniform)) == pytest.approx(50, abs=1e-12)


def test_the_area_is_that_of_the_distribution():
    errors = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    limits = torch.linspace(0, 0.5, 200_001, dtype=torch.float64)
    shares = (errors <= limits[:, None]).double().mean(1)
    assert float(error_auc(errors)) == pytest.approx(float(torch.trapezoid(shares, limits)) * 200, abs=1e-3)
    assert float(error_share(errors, 0.3)) == pytest.approx(float((errors <= 0.3).double().mean()))
    assert float(error_share(torch.tensor([0.1, 0.2], dtype=torch.float64))) == 0.5  # the limit itself counts
    pairs = errors.reshape(5, 10)
    torch.testing.assert_close(error_auc(pairs), torch.stack([error_auc(row) for row in pairs]))
    torch.testing.assert_close(error_share(pairs, 0.3), torch.stack([error_share(row, 0.3) for row in pairs]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: landmark_errors(SQUARE[:6], SQUARE), "predicted and true must have one shape"),
        (lambda: landmark_errors(SQUARE[:7], SQUARE[:7]), "x, y of every point"),
        (lambda: landmark_errors(SQUARE, torch.ones_like(SQUARE)), "on one place"),
        (lambda: error_auc(SQUARE - 1), r"errors must be in \[0, inf\), got -1"),
        (lambda: error_share(SQUARE * torch.nan), "errors must be finite"),
        (lambda: error_auc(SQUARE, 0.0), "limit must be greater than 0, got 0"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
