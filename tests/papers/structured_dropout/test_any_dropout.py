"""E5 at a size of a second: four distributions, each with its own deterministic objective."""

import numpy as np
import pytest

from repro.dropout import OverlappingDropBlock


@pytest.fixture(scope="module")
def run(run_linear):
    return run_linear(
        "experiment=any_dropout",
        "dropout.retain=[0.5,0.8]",
        "training.steps=100",
        "training.log_points=8",
        "options.monte_carlo_masks=3000",
    )


def squared(curves, reference: str) -> np.ndarray:
    return ((curves.monte_carlo - curves[reference]) / curves.standard_error).to_numpy() ** 2


def test_every_distribution_agrees_with_its_objective(run):
    assert set(run.record.cells.scheme) == {"bernoulli", "dropblock", "overlapping_dropblock", "gaussian"}
    for _, curves in run.curves.groupby("scheme"):
        assert squared(curves, "deterministic").max() < 3.5**2
        assert 0.2 < squared(curves, "deterministic").mean() < 2.5


def test_and_with_no_other(run):
    for scheme, curves in run.curves.groupby("scheme"):
        if scheme != "bernoulli":
            assert squared(curves, "dropout_objective").mean() > 15


def test_the_covariances_are_those_of_the_cells(run):
    arrays, cells = run.record.arrays, run.record.cells
    assert len(arrays) == len(cells)
    row = cells[cells.scheme == "overlapping_dropblock"].iloc[0]
    expected = OverlappingDropBlock(8, 4, row.retain).relative_covariance
    np.testing.assert_allclose(arrays[f"relative_covariance_{row.cell}"], expected)
    first = cells[cells.scheme == "bernoulli"].iloc[0]
    np.testing.assert_allclose(arrays[f"relative_covariance_{first.cell}"], np.eye(8) * (1 - 0.5) / 0.5)


def test_figures(run, drawn):
    axes = drawn(run)
    assert len(axes["objective"]) == len(axes["standard_errors"]) == 4
    images = [axis for axis in axes["covariances"] if axis.images]
    assert len(images) == 4
    assert all(0.99 < float(axis.images[0].get_array().max()) <= 1 for axis in images)


def test_noise_of_a_rotated_covariance_is_one_of_them(run_linear):
    run = run_linear(
        *("experiment=any_dropout", "dropout=structured", "dropout.retain=0.8", "dropout.reflections=3"),
        *("training.steps=60", "training.log_points=4", "options.monte_carlo_masks=3000"),
    )
    assert squared(run.curves, "deterministic").max() < 3.5**2
    assert squared(run.curves, "dropout_objective").mean() > 15
