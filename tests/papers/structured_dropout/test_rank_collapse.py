"""E4 at a size of seconds: more dropout and smaller blocks lower the rank, in theory and in training."""

import numpy as np
import pytest

from repro.papers.structured_dropout.rank_collapse import CLAIMS
from repro.pipeline.claims import NotMeasured

P, SIZES = (0.6, 0.75, 0.9), (1, 2, 4)


@pytest.fixture(scope="module")
def run(run_linear):
    return run_linear(
        "experiment=rank_collapse",
        "model.width=16",
        f"dropout.p={list(P)}".replace(" ", ""),
        f"dropout.block_size={list(SIZES)}".replace(" ", ""),
        "training.steps=1500",
    )


@pytest.fixture(scope="module")
def digits(run_linear):
    return run_linear(
        "experiment=rank_collapse_digits",
        "model.width=16",
        "dropout.p=[0.5,0.9]",
        "dropout.block_size=[1,4]",
        "training.steps=60",
        "training.learning_rate=0.1",
        small=False,
    )


def table(run, column: str) -> np.ndarray:
    """(block sizes, values of p), both increasing, mean over seeds."""
    return run.record.cells.pivot_table(index="block_size", columns="p", values=column).to_numpy()


@pytest.mark.parametrize("which", ["run", "digits"])
def test_theory_collapses_with_dropout_and_with_small_blocks(which, request):
    run = request.getfixturevalue(which)
    for column, sign in (("closed_form", -1), ("closed_form_effective_rank", 1)):
        values = sign * table(run, column)
        assert (np.diff(values, axis=0) > 1e-6).all()  # growing with r
        assert (np.diff(values, axis=1) > 0).all() or which == "run"  # growing with p
    ranks = table(run, "closed_form_rank")
    assert (np.diff(ranks, axis=0) >= 0).all()
    assert (np.diff(ranks, axis=1) >= 0).all()
    assert ranks[0, 0] < ranks[-1, -1]


def test_training_follows(run):
    cells = run.record.cells
    assert not cells.diverged.any()
    assert cells.relative_gap.between(-1e-6, 0.02).all()
    measured, theory = table(run, "effective_rank"), table(run, "closed_form_effective_rank")
    np.testing.assert_allclose(measured, theory, rtol=0.02)
    # Control: not what another block size or another p predicts.
    assert np.abs(measured / theory[::-1] - 1)[[0, 2]].min() > 0.05
    assert np.abs(measured[:2] / theory[:2, ::-1] - 1)[:, [0, 2]].min() > 0.05
    assert run.result.headline["median relative error of the effective rank"] < 0.01


def test_the_curves_of_theory_pass_through_the_cells(run):
    arrays = run.record.arrays
    assert set(arrays["curve_block_size"]) == set(SIZES)
    for row in run.record.cells.itertuples():
        mine = arrays["curve_block_size"] == row.block_size
        p = arrays["curve_p"][mine]
        assert (p.min(), p.max()) == pytest.approx((P[0], P[-1]))
        for column in ("closed_form", "closed_form_effective_rank"):
            between = np.interp(row.p, p, arrays[f"curve_{column}"][mine])
            assert between == pytest.approx(getattr(row, column), rel=1e-2)


def test_real_digits_run_through(digits):
    cells = digits.record.cells
    assert digits.record.experiment == "rank_collapse_digits"
    assert digits.config.data.whiten
    assert digits.record.arrays["closed_form"].shape == (4, 392)
    assert not cells.diverged.any()
    assert (cells.relative_gap > 0).all()
    start = digits.curves[digits.curves.step == 0].sort_values("cell")
    assert (cells.objective.to_numpy() < start.objective.to_numpy()).all()
    # The network's spectrum: no more than `width` values.
    assert (digits.record.arrays["singular_values"][:, 16:] == 0).all()
    assert (digits.record.arrays["singular_values"][:, :16] > 0).all()


@pytest.mark.parametrize("which", ["run", "digits"])
def test_figures(which, request, drawn):
    run = request.getfixturevalue(which)
    axes = drawn(run)
    rates = run.record.cells.p.nunique()
    assert {name: len(panels) for name, panels in axes.items()} == {
        "collapse": 1 + min(rates, run.config.options.spectra),
        "objective": 1,
    }
    assert axes["collapse"][0].get_ylabel() == "effective rank"


def test_a_single_cell_has_figures_too(run_linear, drawn):
    run = run_linear(
        "experiment=rank_collapse", "dropout.p=0.8", "dropout.block_size=2", "training.steps=20", "options.spectra=1"
    )
    assert len(run.record.cells) == 1
    assert len(drawn(run)["collapse"]) == 2


def test_the_price_in_steps(run_linear, drawn):
    run = run_linear(
        "experiment=rank_collapse_textbook", "seed=[0,1]", "dropout.block_size=[1,2]", "dropout.p=[0.6,0.9]",
        "training.steps=2000", "training.learning_rate=0.02", "options.price.steps=[100,500]",
    )  # fmt: skip
    arrays = run.record.arrays
    assert run.config.training.masks_per_step == 1
    pairs = list(zip(arrays["price_steps"], arrays["price_masks"], strict=True))
    assert pairs == [(100, 1), (100, 32), (500, 1), (500, 32)]
    one, many = arrays["price_relative_gap"][::2], arrays["price_relative_gap"][1::2]
    first = run.record.cells[run.record.cells.seed == 0]
    assert one[0] > one[1] > first.relative_gap.max()  # longer is better
    assert (many < one).all()  # and so are more masks
    axes = drawn(run)["price"]
    assert len(axes) == 3
    assert [len(line.get_xdata()) for line in axes[0].get_lines()] == [3, 2, 2]  # its own end, then the limit's line


def test_an_order_of_one_kind_alone_is_not_measured(run_linear):
    run = run_linear("experiment=rank_collapse", "dropout.p=[0.6,0.9]", "dropout.block_size=2", "training.steps=20")
    with pytest.raises(NotMeasured, match="no pair of one p"):
        next(claim for claim in CLAIMS if claim.id == "rank_falls").measure(run.record)
