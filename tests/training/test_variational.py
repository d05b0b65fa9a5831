"""Adam on the ELBO, and the metrics with torchmetrics' traps."""

import math

import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, multiclass_calibration_error

from repro.models.variational import Settings as Perceptron
from repro.models.variational.build import build
from repro.models.variational.layers import VariationalLinear
from repro.training.variational import Settings, loop, metrics
from repro.training.variational.arms import Arm, compared

SETTINGS = {
    "kind": "variational", "steps": 30, "batch_size": 8, "learning_rate": 0.02, "noise_learning_rate": 0.02,
    "kl_warmup": 0.3, "samples": 5,
    "prior_variance": 0.3, "columns": "independent", "prior": "empirical_bayes", "log_points": 3, "sampling": "local",
}  # fmt: skip


def settings(**changes):
    return Settings.model_validate(SETTINGS | changes)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def squared(outputs, targets):
    return (outputs[..., 0] - targets).square()


def trained(arm, copies=2, changes=None, poison=False):
    found = settings(**(changes or {}))
    X = torch.randn(copies, 40, 3, generator=seeded(1))
    y = X[..., 0] + 0.1 * torch.randn(copies, 40, generator=seeded(2))
    if poison:
        y[0] = math.inf
    network = build(Perceptron(kind="mlp", hidden=(6,)), 3, 1, arm.make(found, seeded(3), (copies,), "centred", 0.1))
    steps = []
    diverged = loop.train(network, X, y, squared, found, seeded(4), seeded(5), steps.append)
    return network, X, y, diverged, steps


@pytest.mark.parametrize("arm", compared((1, 2), (0.1,)), ids=lambda arm: arm.name)
def test_every_method_learns(arm):
    network, X, y, diverged, steps = trained(arm, changes={"steps": 300})
    network.noisy(False)
    assert not diverged.any()
    assert steps == [0, 150, 300]
    assert (squared(network(X), y).mean(-1) < 0.5 * y.var(-1)).all()


def test_the_same_seeds_give_the_same_bits_and_others_do_not():
    first, again = (trained(Arm("VSD", reflections=2))[0].linear[0].weight for _ in range(2))
    assert torch.equal(first, again)
    other = trained(Arm("VSD", reflections=1))[0].linear[0].weight
    assert not torch.equal(first, other)


def test_a_copy_that_diverges_is_marked_and_leaves_the_others_alone():
    alone, *_ = trained(Arm("VD-EB"))
    network, *_, diverged, _ = trained(Arm("VD-EB"), poison=True)
    assert diverged.tolist() == [True, False]
    assert torch.equal(network.linear[0].weight[1], alone.linear[0].weight[1])
    assert network.linear[0].weight.isfinite().all()


def test_a_divergence_that_is_not_finite_is_marked(monkeypatch):
    """A weight of 0 under a fixed prior: the posterior is singular, its KL infinite."""
    changes = {"prior": "normal", "steps": 3}
    *_, fine, _ = trained(Arm("VSD", reflections=1), changes=changes)
    assert not fine.any()

    def zeroed(self, *given, right=VariationalLinear.__init__, **named):
        right(self, *given, **named)
        with torch.no_grad():
            self.weight[1, 0, 0] = 0

    monkeypatch.setattr(VariationalLinear, "__init__", zeroed)
    network, *_, diverged, _ = trained(Arm("VSD", reflections=1), changes=changes)
    assert diverged.tolist() == [False, True]
    assert all(p.isfinite().all() for p in network.parameters())


def test_a_gradient_that_is_not_finite_is_marked(monkeypatch):
    def kl(self, right=VariationalLinear.kl):
        broken = torch.where(torch.arange(2) == 1, self.log_rates.sum(-1) * 0, 1.0)
        return right(self) + 1e-30 * broken.sqrt()  # finite; the slope of √ at 0 is not

    monkeypatch.setattr(VariationalLinear, "kl", kl)
    *_, diverged, _ = trained(Arm("VSD", reflections=1), changes={"steps": 3})
    assert diverged.tolist() == [False, True]


def test_every_example_is_seen_once_a_pass_by_every_copy():
    rows = loop.examples(12, 2, 4, seeded())
    one_pass = torch.cat([next(rows) for _ in range(3)], 1)
    assert one_pass.sort(1).values.tolist() == [list(range(12))] * 2
    assert one_pass[0].tolist() != one_pass[1].tolist()


def test_draws_share_their_weights_over_rows():
    network, X, *_ = trained(Arm("VSD", reflections=2))
    same = X[:, :1].expand(-1, 7, -1)
    drawn = loop.draws(network, same, 4, seeded())
    assert drawn.shape == (4, 2, 7, 1)
    assert torch.allclose(drawn, drawn[:, :, :1].expand_as(drawn), atol=1e-6)
    assert drawn[:, 0, 0].std() > 0


def test_hierarchical_goes_with_shared_columns_alone():
    assert settings(prior="hierarchical", columns="shared").columns == "shared"
    for changes in ({"prior": "hierarchical"}, {"columns": "shared"}):
        with pytest.raises(ValueError, match=r"training.prior=.*infinite"):
            settings(**changes)


# ---------------------------------------------------------------------- metrics


def by_hand(probabilities, labels, bins):
    confidence, chosen = probabilities.max(-1)
    at = (confidence * bins).long().clamp_max(bins - 1)
    ece = 0.0
    for b in range(bins):
        mine = at == b
        if mine.any():
            right = (chosen[mine] == labels[mine]).double().mean()
            ece += float(mine.double().mean() * (right - confidence[mine].double().mean()).abs())
    return ece


def test_quality_by_hand():
    p = torch.softmax(2 * torch.randn(300, 4, generator=seeded()), -1)
    y = torch.randint(4, (300,), generator=seeded(1))
    found = metrics.quality(p, y, 10)
    assert found.error == pytest.approx(float((p.argmax(-1) != y).double().mean()), abs=1e-6)
    assert found.nll == pytest.approx(float(-p[torch.arange(300), y].log().mean()), rel=1e-5)
    assert found.brier == pytest.approx(float(((p - torch.eye(4)[y]) ** 2).sum(-1).mean()), rel=1e-5)
    assert found.ece == pytest.approx(by_hand(p, y, 10), abs=1e-5)
    share, accuracy, confidence = metrics.reliability(p, y, 10)
    assert float((share * (accuracy - confidence).abs()).sum()) == pytest.approx(found.ece, abs=1e-5)


def test_the_bootstrap_holds_the_calibration_error_of_what_is_resampled():
    p = torch.softmax(2 * torch.randn(4000, 4, generator=seeded()), -1)
    y = torch.multinomial(p, 1, generator=seeded(2))[:, 0]  # right, but for a quarter of the rows
    y[:1000] = (p[:1000].argmax(-1) + 1) % 4
    low, high = metrics.bootstrapped_ece(p, y, 10, 300, seeded(3))
    ece = metrics.quality(p, y, 10).ece
    assert low < ece < high
    again = torch.randint(4000, (100, 4000), generator=seeded(4))
    spread = [metrics.quality(p[rows], y[rows], 10).ece for rows in again]
    assert high - low == pytest.approx(3.92 * float(torch.tensor(spread).std()), rel=0.3)
    few = metrics.bootstrapped_ece(p[::10], y[::10], 10, 300, seeded(3))
    assert few[1] - few[0] > 2 * (high - low)  # the control: fewer images say less


def test_a_confidence_of_one_falls_into_the_last_bin():
    """The trap: torchmetrics alone has 0.525 here, where one of the two is right at .95 and 1."""
    p, y = torch.tensor([[0.95, 0.05], [1.0, 0.0]]), torch.tensor([0, 1])
    assert metrics.quality(p, y, 10).ece == pytest.approx(0.475, abs=1e-5)
    assert float(multiclass_calibration_error(p, y, 2, n_bins=10)) == pytest.approx(0.525, abs=1e-5)


def test_large_scores_are_not_squashed_together():
    """The trap: beyond [0, 1] torchmetrics takes a sigmoid, which ties 30 and 40."""
    inside, outside = torch.tensor([0.0, 30.0]), torch.tensor([40.0, 50.0])
    assert metrics.detection(inside / 50, outside / 50)[0] == 1
    trapped = binary_auroc(torch.cat([inside, outside]), torch.tensor([0, 0, 1, 1]))
    assert float(trapped) < 1
    with pytest.raises(ValueError, match="scores must lie in"):
        metrics.detection(inside, outside)
    same = torch.rand(2000, generator=seeded())
    assert abs(metrics.detection(same[::2], same[1::2])[0] - 0.5) < 0.05


def test_entropy_and_mutual_information():
    flat, sure = torch.full((4,), 0.25), torch.tensor([1.0, 0, 0, 0])
    assert metrics.entropy(torch.stack([flat, sure])).tolist() == pytest.approx([1, 0])
    disagree = torch.eye(4)[:, None]  # four draws, each sure of another class
    assert float(metrics.mutual_information(disagree)) == pytest.approx(1)
    assert float(metrics.mutual_information(flat.expand(4, 1, 4))) == pytest.approx(0, abs=1e-6)
