"""The grid, and both trainings on it."""

import pytest
import torch

from repro.data.linear import LinearData
from repro.dropout import Bernoulli, CorrelatedGaussian, DropBlock, DropConnect, OverlappingDropBlock
from repro.papers.structured_dropout import linear
from repro.pipeline import settings
from repro.theory import retain_probability

DATA = LinearData(torch.eye(5, 20, dtype=torch.float64), torch.eye(3, 20, dtype=torch.float64))


def config(*overrides: str):
    return settings.load(["experiment=any_dropout", "scale=smoke", "model.width=8", *overrides])


def test_the_grid_is_the_product_of_what_is_listed():
    cfg = config("dropout.scheme=dropblock", "dropout.block_size=[1,4]", "dropout.retain=[0.5,0.8]", "seed=[0,3]")
    cells, table = linear.grid(cfg, DATA)
    assert len(cells) == len(table) == cfg.cells == 8
    assert list(table.cell) == list(range(8))
    assert not table.drop(columns="cell").duplicated().any()
    for cell, row in zip(cells, table.itertuples(), strict=True):
        assert cell.masks == DropBlock(8, row.block_size, row.retain)
        assert cell.seed == row.seed
        assert (row.scheme, row.width) == ("dropblock", 8)
    assert set(table.retain) == {0.5, 0.8}
    assert "p" not in table


def test_p_scales_with_the_width():
    cfg = config("dropout.scheme=dropblock", "dropout.block_size=[1,4]", "dropout.retain=null", "dropout.p=[0.5,0.9]")
    cells, table = linear.grid(cfg, DATA)
    assert list(table.p) == [0.5, 0.9, 0.5, 0.9]
    for cell, row in zip(cells, table.itertuples(), strict=True):
        assert cell.masks.retain == row.retain == retain_probability(row.p, 8, row.block_size)
    assert table.retain[0] != table.p[0]


def test_every_scheme_has_its_distribution():
    cfg = config("dropout.retain=0.5", "dropout.correlation=0.3", "dropout.block_size=[2,4]")
    cells, table = linear.grid(cfg, DATA)
    assert [cell.masks for cell in cells] == [
        Bernoulli(8, 0.5),
        DropBlock(8, 2, 0.5),
        DropBlock(8, 4, 0.5),
        OverlappingDropBlock(8, 2, 0.5),
        OverlappingDropBlock(8, 4, 0.5),
        CorrelatedGaussian(8, 0.5, 0.3),
    ]
    assert list(table.block_size) == [1, 2, 4, 2, 4, 1]
    for factor, rows in (("U", 3), ("V", 5)):
        (cell,), _ = linear.grid(config(f"dropout.scheme=dropconnect_{factor}", "dropout.retain=0.5"), DATA)
        assert cell.masks == DropConnect(rows, 8, 0.5, factor)


@pytest.mark.parametrize("experiment", ["any_dropout", "dropblock_objective"])
def test_one_grid_takes_masks_on_units_and_on_weights(run_linear, drawn, experiment):
    """And a cell's numbers are those that it has without the others."""
    quick = [f"experiment={experiment}", "training.steps=20", "options.monte_carlo_masks=200", "dropout.retain=0.6"]
    run = run_linear("dropout.scheme=[gaussian,dropconnect_U,bernoulli,dropconnect_V]", *quick)
    for cell, scheme in enumerate(run.record.cells.scheme):
        alone = run_linear(f"dropout.scheme={scheme}", *quick)
        mine = run.record.curves[run.record.curves.cell == cell].reset_index(drop=True)
        for column in ("monte_carlo", "deterministic", "deterministic_training"):
            torch.testing.assert_close(
                *(torch.tensor(c[column]) for c in (mine, alone.record.curves)), rtol=1e-6, atol=0
            )
    assert len(drawn(run)["objective"]) == 4
    if experiment == "any_dropout":
        assert set(run.record.arrays) == {"relative_covariance_0", "relative_covariance_2"}
