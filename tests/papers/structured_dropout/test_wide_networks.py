"""The width at a size of seconds: with θ fixed dropout's weight falls like 1/d, with p fixed it stays."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def run(run_linear):
    return run_linear(
        "experiment=wide_networks", "seed=[0,1]", "dropout.block_size=[1,2]", "dropout.p=[0.7,0.9]",
        "training.steps=1000", "options.growth=[1,2,4]",
    )  # fmt: skip


def test_every_width_is_trained_with_either_fixed(run):
    cells = run.record.cells
    assert len(cells) == run.config.networks - 3 * 4  # the grid with θ fixed has one rate for the two p
    assert (cells.groupby("fixed").width.nunique() == 3).all()
    assert (cells[cells.fixed == "retain"].retain == 0.3).all()
    assert np.isclose(cells[cells.fixed == "p"].p.unique(), [0.7, 0.9]).all()
    assert set(run.curves.cell) == set(cells.cell)


def test_the_weight_is_the_one_of_theory(run):
    cells = run.record.cells
    fixed = cells[cells.fixed == "retain"]
    np.testing.assert_allclose(fixed.expected_weight, fixed.block_size * 0.7 / 0.3 / fixed.width)
    np.testing.assert_allclose(cells.penalty_weight, cells.expected_weight, rtol=0.02)
    np.testing.assert_allclose(cells.shrinkage, cells.expected_shrinkage, rtol=0.05)


def test_figures(run, drawn):
    assert {name: len(panels) for name, panels in drawn(run).items()} == {"width": 2}
