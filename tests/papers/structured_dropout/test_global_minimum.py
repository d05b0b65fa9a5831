"""E2 at a size of seconds: SGD and L-BFGS at the closed form, balanced blocks, and the width that is needed."""

import numpy as np
import pytest

from repro.data.linear import load
from repro.theory import global_minimizer

WIDTH = 16


@pytest.fixture(scope="module")
def run(run_linear):
    return run_linear(
        "experiment=global_minimum",
        "seed=[0,1]",
        f"model.width={WIDTH}",
        "data.rank=4",
        "dropout.block_size=[1,4]",
        "dropout.p=[0.7,0.9]",
        "training.steps=1500",
        "options.width_needed.features=8",
        "options.width_needed.rank=4",
        "options.width_needed.samples=40",
        "options.width_needed.block_sizes=[1,2]",
        "options.width_needed.widths=[2,8]",
        "options.width_needed.starts=2",
    )


def test_the_reference_is_the_global_minimum(run):
    X, Y = load(run.config.data)
    for row in run.record.cells.itertuples():
        expected = global_minimizer(Y, X, row.block_size, row.p)
        assert row.closed_form == pytest.approx(float(expected.objective), rel=1e-10)
        assert row.closed_form_rank == int(expected.rank)
        np.testing.assert_allclose(run.record.arrays["closed_form"][row.cell], expected.singular_values, atol=1e-10)
    assert run.record.cells.groupby(["block_size", "p"]).closed_form.nunique().eq(1).all()
    assert run.record.cells.closed_form.nunique() == 4


def test_the_solver_reaches_it(run):
    assert run.record.cells.solver_gap.abs().max() < 1e-10


def test_sgd_comes_close_and_never_below(run):
    cells = run.record.cells
    assert not cells.diverged.any()
    assert cells.relative_gap.between(-1e-6, 0.02).all()
    first = run.curves[run.curves.step == 0]
    assert (first.relative_gap > 0.1).all()  # control: it had to be learned
    assert cells.singular_value_error.max() < 0.05
    found, reference = run.record.arrays["singular_values"], run.record.arrays["closed_form"]
    error = np.linalg.norm(found - reference, axis=1) / np.linalg.norm(reference, axis=1)
    np.testing.assert_allclose(cells.singular_value_error, error)
    # Control: the closed form of another cell is no match.
    mixed = np.linalg.norm(found - reference[::-1], axis=1) / np.linalg.norm(reference, axis=1)
    assert mixed.min() > 0.1


def test_last_logged_values_are_the_final_ones(run):
    last = run.curves[run.curves.step == 1500].sort_values("cell")
    np.testing.assert_array_equal(last.objective, run.record.cells.objective)
    np.testing.assert_array_equal(last.imbalance, run.record.cells.imbalance)


def test_blocks_become_balanced(run):
    norms = run.record.arrays["block_norms"]
    for row in run.record.cells.itertuples():
        assert np.isfinite(norms[row.cell]).sum() == WIDTH // row.block_size
    start = run.curves[run.curves.step == 0].sort_values("cell")
    assert (run.record.cells.imbalance.to_numpy() < 0.5 * start.imbalance.to_numpy()).all()
    assert run.record.cells.imbalance.max() < 0.1


def test_narrow_networks_do_not_reach_it(run):
    arrays = run.record.arrays
    size, width, gap = (arrays[f"width_needed_{name}"] for name in ("block_size", "width", "gap"))
    assert sorted(zip(size, width, strict=True)) == [(1, d) for d in range(2, 9)] + [(2, d) for d in (2, 4, 6, 8)]
    assert (gap > -1e-12).all()
    assert ((abs(gap) < 1e-10) == (width >= arrays["width_needed_derived"])).all()
    for r in (1, 2):
        mine = size == r
        assert gap[mine][0] > 1e-4  # a visible gap at the least width
        assert abs(gap[mine][-1]) < 1e-10


def test_the_headline_sums_up(run):
    headline, cells = run.result.headline, run.record.cells
    assert headline["median gap to the closed form"] == pytest.approx(cells.relative_gap.median())
    assert headline["largest gap to the closed form"] == pytest.approx(cells.relative_gap.max())
    assert headline["median relative error of a singular value"] < 0.03
    assert headline["diverged cells"] == 0


def test_figures(run, drawn):
    axes = drawn(run)
    assert {name: len(panels) for name, panels in axes.items()} == {
        "gap": 2,
        "singular_values": 2,
        "balance": 2,
        "width_needed": 1,
    }
    assert all(axis.get_xlabel() for panels in axes.values() for axis in panels)


def test_fewer_samples_than_features(run_linear):
    """What X does not span is never seen: the closed form has a projection in it, and a rest that stays."""
    run = run_linear(
        "experiment=global_minimum_rank_deficient", "data.samples=9", "data.rank=6", "data.noise=0.2",
        "dropout.block_size=[1,2]", "dropout.p=[0.7,0.9]", "training.steps=2000",
    )  # fmt: skip
    X = load(run.config.data).X
    assert np.linalg.matrix_rank(X) == 9 < len(X)
    cells = run.record.cells
    assert cells.relative_gap.between(-1e-6, 1e-3).all()
    assert cells.minimizer_distance.max() < 0.05
    assert cells.solver_gap.abs().max() < 1e-10
    assert "width_needed_gap" not in run.record.arrays


@pytest.mark.parametrize("learning_rate", [0.25, 100.0])
def test_a_diverged_cell_is_told_apart(run_linear, drawn, learning_rate):
    """At 100 all diverge, at 0.25 some: records and figures are there nonetheless."""
    run = run_linear(
        "experiment=global_minimum", "model.width=16", "dropout.block_size=[1,4]", "dropout.p=[0.3,0.9]",
        "training.steps=200", f"training.learning_rate={learning_rate}", "options.solve=false",
        "options.width_needed.block_sizes=[1]", "options.width_needed.widths=[2,3]", "options.width_needed.starts=1",
    )  # fmt: skip
    cells = run.record.cells
    assert cells.diverged.any()
    assert cells.diverged.all() == (learning_rate == 100)
    assert np.isfinite(cells.objective[~cells.diverged]).all()
    assert run.result.headline["diverged cells"] == cells.diverged.sum()
    assert np.isnan(run.record.arrays["singular_values"][cells.diverged]).all()
    assert "solver_gap" not in cells
    assert set(drawn(run)) == {"gap", "singular_values", "balance", "width_needed"}
