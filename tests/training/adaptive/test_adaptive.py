"""Methods against the objectives they are said to descend on, and the batched loop against a plain one."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from repro.theory.penalties import LogSum as Penalty
from repro.training.adaptive import LogRates, Rates, Settings
from repro.training.adaptive.kinds import METHODS
from repro.training.adaptive.loop import Digits, measured, order, train
from repro.training.adaptive.methods import AdaProx, AdaptiveDropout, EtaTrick, Masked
from repro.training.adaptive.network import Stack, initial
from repro.training.adaptive.variational import MOLCHANOV

SIZES, SEEDS, EPSILON = (12, 7, 5, 3), (0, 1), 0.5
WEIGHTS = torch.tensor([0.01, 0.03])
TRAINING = Settings(
    kind="adaptive", epochs=3, fine_tuning=1, batch_size=16, weight=0.01, epsilon=EPSILON, divergence_images=500,
    zero=0.05, rates=Rates(**dict.fromkeys(METHODS, 1e-2)),
    log_rates=LogRates(**dict.fromkeys(("eta_trick", "var_drop", "var_drop_lr", "var_drop_lr_ar"), 1e-2)),
)  # fmt: skip


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(150, SIZES[0], generator=generator)
    labels = (x[:, :3] + 0.1 * torch.randn(150, 3, generator=generator)).argmax(1)
    return Digits(x[:100], labels[:100], x[100:], labels[100:])


def made(name, seeds=SEEDS, weights=WEIGHTS):
    kind = METHODS[name]
    method = kind(initial(SIZES, seeds, "cpu", kind.start), weights, TRAINING)
    if kind.start is not None:  # weights of a size at which everything has a share
        for w, log in zip(method.weights, method.logs, strict=True):
            w.copy_(0.3 * torch.randn(w.shape, generator=torch.Generator().manual_seed(3)))
            log.copy_(torch.randn(w.shape, generator=torch.Generator().manual_seed(4)) - 1)
    for tensor in (*method.weights, *method.logs):
        tensor.requires_grad_()
        tensor.grad = torch.zeros_like(tensor)
    return method


def trained(name, data, seeds=SEEDS, weights=WEIGHTS, epochs=3, key="test"):
    method = METHODS[name](initial(SIZES, seeds, "cpu"), weights, TRAINING)
    return method, train(method, seeds, data, TRAINING, key=key, epochs=epochs, rate=1e-2, log_rate=1e-2)


# ---------------------------------------------------------------------- gradients


def log_sum(method, w, log, weight):
    return weight * (w.abs() + EPSILON).log()


def tikhonov_at_fixed_alpha(method, w, log, weight):
    alpha = method.follow(w.detach(), weight).clamp_min(1e-3)
    return w.square() * (1 - alpha) / alpha / 2


def eta_trick(method, w, log, weight):
    eta = (weight * log.exp()).double()
    return (weight / 2 * (w.double().square() / eta + Penalty(EPSILON).dual(eta))).float()


def divergence(log_a, weight):
    k1, k2, k3 = MOLCHANOV
    kl = -(k1 * torch.sigmoid(k2 + k3 * log_a) - torch.log1p((-log_a).exp()) / 2)
    return weight / TRAINING.weight / TRAINING.divergence_images * kl


OBJECTIVES = {
    "log_sum": log_sum,
    "ada_tikhonov": tikhonov_at_fixed_alpha,
    "eta_trick": eta_trick,
    "var_drop": lambda method, w, log, weight: divergence(log, weight),
    "var_drop_lr": lambda method, w, log, weight: divergence(log, weight),
    "var_drop_lr_ar": lambda method, w, log, weight: divergence(2 * log - w.square().log(), weight),
    "ada_prox": lambda method, w, log, weight: 0 * w,
    "dropout": lambda method, w, log, weight: 0 * w,
    "plain": lambda method, w, log, weight: 0 * w,
}


@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_is_that_of_the_objective(name):
    method = made(name)
    if name == "ada_tikhonov":
        with torch.no_grad():
            method.after(torch.ones_like, 0.0)
    objective = 0.0
    logs = method.logs or [None] * len(method.weights)
    for w, log in zip(method.weights, logs, strict=True):
        objective = objective + OBJECTIVES[name](method, w, log, WEIGHTS[:, None, None]).sum()
    parameters = [*method.weights, *method.logs]
    expected = torch.autograd.grad(objective, parameters, allow_unused=True)
    with torch.no_grad():
        method.add_gradient()
    for parameter, wanted in zip(parameters, expected, strict=True):
        found = torch.zeros_like(parameter) if wanted is None else wanted
        torch.testing.assert_close(parameter.grad, found, rtol=2e-4, atol=1e-8)


def test_a_follows_the_penaltys_own_theory():
    for name in ("log_sum", "ada_prox", "dropout"):
        method = made(name)
        alpha = Penalty(EPSILON).retain(method.weights[0].double(), WEIGHTS.double()[:, None, None])
        torch.testing.assert_close(method.retain(0).double(), alpha.detach(), rtol=1e-5, atol=1e-7)


# ---------------------------------------------------------------------- masks, draws and steps


def test_ada_prox_becomes_the_prox_as_the_step_falls():
    """One network of one weight: Adam's steps on ½(w − 1)², whose v̂ is held at 1, end at the prox of λ, not of lr·λ."""
    prox = float(Penalty(EPSILON).prox(torch.tensor([1.0], dtype=torch.float64), 0.2))
    ends = {}
    for rate in (0.1, 0.01):
        method = AdaProx(Stack([torch.ones(1, 1, 1)], [torch.zeros(1, 1, 1)]), torch.tensor([0.2]), TRAINING)
        for _ in range(int(40 / rate)):
            method.weights[0].sub_(rate * (method.weights[0] - 1))
            method.after(torch.ones_like, rate)
        ends[rate] = float(method.weights[0])
    assert abs(ends[0.01] - prox) < 0.1 * abs(ends[0.1] - prox) + 2e-3
    assert abs(ends[0.1] - prox) < 0.05


def test_adaptive_masks_have_mean_one_and_the_variance_of_alpha():
    method = AdaptiveDropout(initial(SIZES, SEEDS, "cpu"), WEIGHTS, TRAINING)
    method.generator.manual_seed(0)
    x = torch.eye(SIZES[0]).expand(2, -1, -1)
    draws = torch.stack([method.layer(0, x) - method.biases[0] for _ in range(4000)])
    w, alpha = method.weights[0], method.retain(0)
    torch.testing.assert_close(draws.mean(0), w, rtol=0, atol=0.02)
    torch.testing.assert_close(draws.var(0).mean(), (w.square() * (1 - alpha) / alpha).mean(), rtol=0.1, atol=0)


@pytest.mark.parametrize("name", ["var_drop_lr", "var_drop_lr_ar"])
def test_local_reparametrisation_has_the_moments_of_drawn_weights(name):
    method = made(name)
    x = torch.randn(2, 4, SIZES[0], generator=torch.Generator().manual_seed(1))
    method.generator.manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([method.layer(0, x) for _ in range(8000)])
        w, variance = method.weights[0], method.variance(0)
    torch.testing.assert_close(variance, w.square() * method.log_ratio(0).exp(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(draws.mean(0), x @ w + method.biases[0], rtol=0, atol=0.15)
    torch.testing.assert_close(draws.var(0), x.square() @ variance, rtol=0.1, atol=1e-3)


def test_masked_weights_stay_zero(data):
    stack = initial(SIZES, SEEDS, "cpu")
    masks = [(torch.rand(w.shape, generator=torch.Generator().manual_seed(i)) < 0.5).float()
             for i, w in enumerate(stack.weights)]  # fmt: skip
    method = Masked(stack, WEIGHTS, TRAINING, masks)
    rows = train(method, SEEDS, data, TRAINING, key="masked", epochs=2, rate=1e-2)
    for w, mask in zip(method.weights, masks, strict=True):
        assert (w[mask == 0] == 0).all()
        assert (w[mask == 1] != 0).all()
    assert torch.equal(rows[-1]["error"], rows[-1]["pruned_error"])
    assert rows[-1]["left"][0] == pytest.approx(
        float(sum(m[0].sum() for m in masks)) / sum(m[0].numel() for m in masks)
    )


# ---------------------------------------------------------------------- the loop


def test_a_plain_loop_gives_the_same_network(data):
    """Of `log_sum`: nn.Linear, torch's Adam and a scheduler, one network."""
    found, rows = trained("log_sum", data)
    for i, seed in enumerate(SEEDS):
        stack = initial(SIZES, (seed,), "cpu")
        layers = [nn.Linear(a, b) for a, b in pairwise(SIZES)]
        for layer, w, b in zip(layers, stack.weights, stack.biases, strict=True):
            layer.weight.data, layer.bias.data = w[0].mT.clone(), b[0, 0].clone()
        network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        adam = torch.optim.Adam(network.parameters(), lr=1e-2)
        steps = len(data.train) // TRAINING.batch_size
        schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step, total=3 * steps: 1 - step / total)
        for epoch in range(3):
            for batch in order(len(data.train), seed, epoch)[: steps * TRAINING.batch_size].split(TRAINING.batch_size):
                adam.zero_grad()
                penalty = sum((layer.weight.abs() + EPSILON).log().sum() for layer in layers)
                (cross_entropy(network(data.train[batch]), data.train_labels[batch]) + WEIGHTS[i] * penalty).backward()
                adam.step()
                schedule.step()
        torch.testing.assert_close(found.weights[0][i], layers[0].weight.data.mT, rtol=1e-3, atol=2e-5)
        wrong = (network(data.test).argmax(1) != data.test_labels).double().mean()
        assert float(rows[-1]["error"][i]) == pytest.approx(float(wrong))


@pytest.mark.parametrize("name", ["ada_tikhonov", "ada_prox", "eta_trick"])
def test_networks_of_a_batch_do_not_know_each_other(data, name):
    together, _ = trained(name, data)
    for i, seed in enumerate(SEEDS):
        alone, _ = trained(name, data, (seed,), WEIGHTS[i : i + 1])
        torch.testing.assert_close(together.weights[1][i], alone.weights[1][0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_and_is_the_same_again(data, name):
    weak = torch.tensor([1e-4, 3e-4])
    method, rows = trained(name, data, weights=weak, epochs=30)
    again, _ = trained(name, data, weights=weak, epochs=30)
    assert torch.equal(method.weights[0], again.weights[0])
    assert (rows[-1]["error"] < 0.5 * rows[0]["error"]).all()
    assert len(rows) == 31


def test_what_is_not_finite_is_told(data):
    method = made("log_sum")
    with torch.no_grad():
        method.weights[1][0, 0, 0] = math.nan
    row = measured(method, data, 0.05)
    assert [bool(x) for x in row["left"].isnan()] == [True, False]
    assert row["error"][0].isnan()


def test_the_eta_trick_has_its_floor_and_meets_the_penalty():
    method = made("eta_trick")
    with torch.no_grad():
        for scale in (1e-6, 1.0, 30.0):
            for rho, w in zip(method.logs, method.weights, strict=True):
                rho.copy_(20 * torch.rand(rho.shape) - 10)
                w.copy_(scale * torch.randn(w.shape))
            floor = WEIGHTS.double() * math.log(EPSILON) * sum(w[0].numel() for w in method.weights)
            value = sum((WEIGHTS.double()[:, None, None] * Penalty(EPSILON).value(w.double())).sum((1, 2))
                        for w in method.weights)  # fmt: skip
            assert (method.penalty() >= value - 1e-9).all()
            assert (value >= floor).all()
            for rho, w in zip(method.logs, method.weights, strict=True):
                eta = Penalty(EPSILON).eta(w.double())
                rho.copy_((eta / WEIGHTS[:, None, None]).log())
            torch.testing.assert_close(method.penalty(), value, rtol=1e-6, atol=1e-9)
    assert isinstance(method, EtaTrick)
