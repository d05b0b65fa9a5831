"""E1 at a size of a second: the stochastic objective is the deterministic one, and not another's."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def run(run_linear):
    return run_linear(
        "experiment=dropblock_objective",
        "seed=[0,1]",
        "dropout.retain=[0.5,0.8]",
        "training.steps=100",
        "training.log_points=8",
        "options.monte_carlo_masks=3000",
    )


def squared(curves, reference: str) -> np.ndarray:
    return ((curves.monte_carlo - curves[reference]) / curves.standard_error).to_numpy() ** 2


def test_every_cell_is_measured_at_every_logged_step(run):
    assert len(run.record.cells) == 4 * 2 * 2
    counts = run.curves.groupby("cell").step.nunique()
    assert (counts == counts[0]).all()
    assert run.curves.step.max() == 100
    assert len(run.curves) == counts[0] * 16
    assert np.isfinite(run.curves.select_dtypes("number")).all(axis=None)


def test_monte_carlo_agrees_with_the_deterministic_objective(run):
    """Over independent comparisons the mean squared standardised distance is 1, give or take an eighth."""
    curves = run.curves
    assert 0.6 < squared(curves, "deterministic").mean() < 1.5
    assert squared(curves, "deterministic").max() < 3.5**2
    assert run.result.headline["mean squared distance in standard errors"] == pytest.approx(
        squared(curves, "deterministic").mean()
    )
    assert run.result.headline["comparisons"] == len(curves)


def test_and_not_with_dropouts(run):
    """The control: the objective of Dropout at the same θ is right for r = 1 alone."""
    for size, curves in run.curves.groupby("block_size"):
        if size == 1:
            np.testing.assert_allclose(curves.dropout_objective, curves.deterministic, rtol=1e-12)
        else:
            assert squared(curves, "dropout_objective").mean() > 20


def test_both_trainings_start_together_and_learn(run):
    start, end = (run.curves[run.curves.step == step] for step in (0, 100))
    np.testing.assert_array_equal(start.deterministic, start.deterministic_training)
    assert (end.deterministic.to_numpy() < start.deterministic.to_numpy()).all()
    assert (end.deterministic_training.to_numpy() < start.deterministic.to_numpy()).all()
    ratio = end.deterministic / end.deterministic_training
    assert ratio.between(0.8, 1.25).all()
    assert (ratio != 1).all()


def test_figures(run, drawn):
    axes = drawn(run)
    assert {name: len(panels) for name, panels in axes.items()} == {"objective": 4, "standard_errors": 4}
    assert [axis.get_title() for axis in axes["objective"]] == ["$r = 1$", "$r = 2$", "$r = 4$", "$r = 8$"]
    assert all(axis.get_xlabel() for panels in axes.values() for axis in panels)
    assert all(panels[0].get_ylabel() for panels in axes.values())
