"""E3 at a size of a second: DropConnect is Dropout on U, and on V where X is white; elsewhere it is not."""

import numpy as np
import pytest

from repro.pipeline import settings
from repro.pipeline.system.errors import UserError


@pytest.fixture(scope="module")
def run(run_linear):
    return run_linear(
        "experiment=dropconnect",
        "training.steps=60",
        "training.log_points=6",
        "options.monte_carlo_masks=1000",
    )


def squared(curves, reference: str) -> np.ndarray:
    return ((curves.monte_carlo - curves[reference]) / curves.standard_error).to_numpy() ** 2


def test_all_four_combinations_are_there(run):
    cells = run.record.cells
    assert list(cells.cell) == list(range(8))
    assert set(zip(cells.scheme, cells.whitened, cells.retain, strict=True)) == {
        (f"dropconnect_{factor}", whitened, retain)
        for factor in "UV"
        for whitened in (True, False)
        for retain in (0.5, 0.8)
    }
    assert run.curves.groupby("cell").ngroups == 8


def test_each_agrees_with_its_own_objective(run):
    distances = squared(run.curves, "deterministic")
    assert distances.max() < 3.5**2
    assert 0.5 < distances.mean() < 1.7


def test_it_is_dropouts_but_for_V_with_correlated_inputs(run):
    control = (run.curves.scheme == "dropconnect_V") & ~run.curves.whitened
    same = run.curves[~control]
    np.testing.assert_allclose(same.dropout_objective, same.deterministic, rtol=1e-12)
    other = run.curves[control & (run.curves.step > 0)]
    assert squared(other, "dropout_objective").min() > 6**2
    assert run.result.headline["largest relative distance to Dropout where theory says 0"] < 1e-12
    assert run.result.headline["median distance to Dropout in standard errors, V masked, correlated X"] > 15


def test_figures(run, drawn):
    axes = drawn(run)
    assert {name: len(panels) for name, panels in axes.items()} == {"objective": 4, "standard_errors": 4}
    assert {axis.get_title() for axis in axes["objective"]} == {
        f"masks on ${factor}$, {kind} $X$" for factor in "UV" for kind in ("whitened", "correlated")
    }


def test_it_takes_dropconnect_alone():
    with pytest.raises(UserError, match=r"^dropout.scheme=bernoulli: dropconnect takes dropout=dropconnect$"):
        settings.load(["experiment=dropconnect", "dropout=bernoulli"])
    assert settings.load(["experiment=dropconnect", "dropout.scheme=dropconnect_U"]).dropout.scheme == (
        "dropconnect_U",
    )
