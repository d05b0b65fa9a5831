"""Groups of weights, against sums written out."""

import pytest
import torch
from torch import nn

from repro.pruning import Groups, expand, group_norms, group_scores


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 5, (2, 3)), nn.Linear(18, 5)])
def test_scores_and_masks(layer):
    weight = layer.weight.detach().clone()
    rows = weight.reshape(5, 18)
    columns, filters = Groups(layer, "column"), Groups(layer, "filter")
    assert (len(columns), len(filters)) == (18, 5)
    for groups, matrix in ((columns, rows.T), (filters, rows)):
        expected = [sum(abs(w) for w in row) for row in matrix.tolist()]
        torch.testing.assert_close(groups.scores(), torch.tensor(expected))
        torch.testing.assert_close(groups.norms(), torch.tensor([row.norm() for row in matrix]))
    momentum = torch.ones_like(weight)
    alive = torch.arange(18) % 3 > 0
    columns.mask_(alive, momentum)
    kept = rows * alive
    torch.testing.assert_close(layer.weight.detach().reshape(5, 18), kept, rtol=0, atol=0)
    assert torch.equal(momentum.reshape(5, 18), alive.float().expand(5, 18))
    filters.mask_(torch.arange(5) != 2)
    assert (layer.weight[2] == 0).all()
    assert (layer.weight[1].reshape(18)[alive] != 0).all()


def test_the_penalty_of_a_gradient():
    layer = nn.Conv2d(2, 4, 3)
    layer.weight.grad = torch.ones_like(layer.weight)
    values = torch.rand(18, dtype=torch.float64)
    Groups(layer, "column").penalize_(values)
    expected = 1 + values.float().view(1, 2, 3, 3) * layer.weight.detach()
    torch.testing.assert_close(layer.weight.grad, expected)
    assert expand(values, layer.weight, "column").shape == (1, 2, 3, 3)
    assert expand(torch.ones(4), layer.weight, "filter").shape == (4, 1, 1, 1)
    assert group_scores(layer.weight, "filter").shape == group_norms(layer.weight, "filter").shape == (4,)


@pytest.mark.parametrize(
    ("layer", "kind", "message"),
    [
        (nn.Linear(3, 2), "row", "kind must be column or filter, got row"),
        (nn.ReLU(), "column", "layer must be a Conv2d or a Linear, got ReLU"),
        (nn.Conv2d(4, 4, 3, groups=4), "filter", "layer must be a convolution of all channels, got groups=4"),
    ],
)
def test_what_has_no_groups(layer, kind, message):
    with pytest.raises(ValueError, match=message):
        Groups(layer, kind)
