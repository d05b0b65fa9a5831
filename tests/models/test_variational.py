"""Layers with a posterior: what they draw, what it costs, and Variational Dropout as their T = 0."""

import math

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from repro import theory
from repro.dropout import StructuredGaussian
from repro.models.variational import Settings
from repro.models.variational.build import build
from repro.models.variational.layers import DropoutLinear, Layer, MeanFieldLinear, VariationalConv2d, VariationalLinear

K, Q, N = 5, 3, 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(copies=(), **noise):
    layer = VariationalLinear(K, Q, seeded(), copies, rate=0.3, **noise)
    layer.generator = seeded(1)
    with torch.no_grad():
        layer.vectors.normal_(generator=seeded(2))
        layer.log_rates.add_(1.5 * torch.randn(layer.log_rates.shape, generator=seeded(3)))
        layer.bias.normal_(generator=seeded(4))
    return layer


def covariance(layer):
    return StructuredGaussian(layer.rates.detach(), layer.vectors.detach(), layer.noise_mean)


def test_without_reflections_it_is_variational_dropout_to_the_bit():
    layer, values = linear(), torch.randn(N, K, generator=seeded(5))
    noise = torch.empty(N, Q).normal_(generator=seeded(1))
    rates = layer.log_rates.exp()
    variance = values.square() @ (rates[:, None] * layer.weight.square())
    expected = values @ layer.weight + layer.bias + variance.clamp_min(1e-12).sqrt() * noise
    assert torch.equal(layer(values), expected)
    dropout = Q / 2 * (torch.log(1 + rates) - rates.log()).sum()
    assert torch.equal(layer.kl(), dropout)
    layer.noisy = False
    assert torch.equal(layer(values), values @ layer.weight + layer.bias)
    # The same start whatever T is.
    assert torch.equal(linear(reflections=2).weight, layer.weight)


@pytest.mark.parametrize("sampling", ["local", "pairs", "weights"])
@pytest.mark.parametrize("noise_mean", ["centred", "rotated"])
@pytest.mark.parametrize("reflections", [1, 3, K])
def test_what_it_draws_has_the_moments_of_its_posterior(reflections, noise_mean, sampling):
    layer, h = (
        linear(reflections=reflections, noise_mean=noise_mean, sampling=sampling),
        torch.randn(1, K, generator=seeded(7)),
    )
    masks = covariance(layer)
    theta = layer.weight.detach().double()
    scaled = h.double().mT * theta  # D_j h in columns
    mean = (masks.mean[:, None] * scaled).sum(0) + layer.bias.detach().double()
    variance = ((masks.covariance @ scaled) * scaled).sum(0)
    with torch.no_grad():
        if sampling == "local":
            drawn = layer(h.expand(200_000, -1))
        else:
            both = torch.stack([layer(h.expand(2, -1)) for _ in range(4_000)])
            drawn = both[:, 0]
            if sampling == "pairs":  # two rows that mirror each other's noise
                assert torch.allclose(both.double().mean(1), mean.expand(4_000, -1), atol=1e-4)
    count, drawn = len(drawn), drawn.double()
    assert ((drawn.mean(0) - mean).abs() / (variance / count).sqrt()).max() < 4
    assert (drawn.var(0) / variance - 1).abs().max() < 5 * math.sqrt(2 / count)
    wrong = ((masks.rates.diag() @ scaled) * scaled).sum(0)  # the control: no rotation
    assert (drawn.var(0) / wrong - 1).abs().max() > 10 * math.sqrt(2 / 200_000)
    # Independent columns: outputs are uncorrelated.
    assert torch.corrcoef(drawn.mT).fill_diagonal_(0).abs().max() < 5 / count**0.5


def test_without_a_choice_a_layer_draws_in_the_way_that_costs_no_more_than_variational_dropout():
    assert linear().sampling == "local"
    assert linear(reflections=1).sampling == "pairs"
    assert linear(reflections=1, sampling="local").sampling == "local"
    with torch.no_grad():
        for rows in (1, 2, 5):
            assert linear(reflections=1)(torch.randn(rows, K)).shape == (rows, Q)


@pytest.mark.parametrize("sampling", ["local", "pairs", "weights"])
def test_no_matrix_of_inputs_by_inputs_is_formed(sampling):
    class Watch(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, call, types, args=(), kwargs=None):
            found = call(*args, **(kwargs or {}))
            for made in pytree.tree_leaves(found):
                if isinstance(made, torch.Tensor):
                    self.largest = max(self.largest, made.numel())
            return found

    width, reflections = 400, 3
    layer = VariationalLinear(width, 2, seeded(), reflections=reflections, sampling=sampling)
    layer.generator = seeded(1)
    with Watch() as seen:
        (layer(torch.randn(4, width)).sum() + layer.kl()).backward()
    assert width * reflections <= seen.largest <= 2 * 2 * reflections * width  # 2T scalings of Θ, both columns
    with Watch() as seen:
        assert covariance(layer).covariance.shape == (width, width)  # the control
    assert seen.largest >= width**2


def test_pairs_have_the_mean_gradient_of_rows_drawn_apart():
    """Of a loss that is not linear in the outputs, so that the noise's part in it is not nothing."""
    values, found = torch.randn(6, K, generator=seeded(5)), {}
    for sampling in ("local", "pairs"):
        layer, gradients = linear(reflections=2, sampling=sampling), []
        for _ in range(1500):
            layer.zero_grad()
            layer(values).square().mean().backward()
            gradients.append(torch.cat([p.grad.flatten() for p in (layer.weight, layer.log_rates, layer.vectors)]))
        found[sampling] = torch.stack(gradients)
    one, other = found.values()
    error = ((one.var(0) + other.var(0)) / 1500).sqrt() + 1e-6
    assert ((one.mean(0) - other.mean(0)).abs() / error).max() < 4.5
    assert one.mean(0).abs().div(error).min() > 0
    assert float(one.var(0).sum()) < float(other.var(0).sum())  # what it is paid with


def test_shared_columns_share_their_noise_over_each_row():
    layer, h = linear(reflections=2, columns="shared", prior="hierarchical"), torch.randn(1, K, generator=seeded(7))
    with torch.no_grad():
        layer.log_deviation.fill_(-20)
        drawn = layer(h.expand(100_000, -1)).double()
    scaled = h.double().mT * layer.weight.detach().double()
    expected = scaled.mT @ covariance(layer).covariance @ scaled
    assert (torch.cov(drawn.mT) - expected).abs().max() < 0.03 * expected.diagonal().max()


@pytest.mark.parametrize("noise_mean", ["centred", "rotated"])
def test_divergences_are_theory_s(noise_mean):
    for prior in ("empirical_bayes", "normal", "hierarchical"):
        columns = "shared" if prior == "hierarchical" else "independent"
        layer = linear(reflections=2, prior=prior, columns=columns, noise_mean=noise_mean, prior_variance=0.7)
        masks, theta = covariance(layer), layer.weight.detach().double()
        given = (masks.mean, masks.covariance.diagonal(), masks.rates)
        if prior == "empirical_bayes":
            expected = theory.kl_empirical_bayes(*given, Q)
        elif prior == "normal":
            expected = theory.kl_normal(theta, *given, 0.7)
        else:
            own = (2 * layer.log_deviation).exp().detach().double()
            expected = theory.kl_hierarchical(theta, own, *given, 0.7, 1.0)
        assert float(layer.kl()) == pytest.approx(float(expected), rel=1e-5)


def test_copies_are_layers_of_their_own():
    many, values = linear((2,), reflections=2), torch.randn(2, N, K)
    assert many(values).shape == (2, N, Q)
    assert many.kl().shape == (2,)
    one = linear(reflections=2)
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            parameter.copy_(dict(many.named_parameters())[name][1])
        assert torch.allclose(one._variance(values[1]), many._variance(values)[1], rtol=1e-5)
        assert torch.allclose(one.kl(), many.kl()[1])


def test_a_network_learns_its_rotation_only_where_it_may():
    settings = Settings(kind="mlp", hidden=(6,))
    for noise, moved in (({}, True), ({"learned": False}, False)):
        network = build(
            settings, K, 2, lambda a, b, n=noise: VariationalLinear(a, b, seeded(), (2,), reflections=2, **n)
        )
        network.draw_from(seeded(1))
        (network(torch.randn(2, N, K)).square().sum() + network.kl().sum()).backward()
        gradients = [layer.vectors.grad for layer in network.layers()]
        assert all((g is not None and bool(g.norm() > 0)) is moved for g in gradients)
    tied = VariationalLinear(K, Q, seeded(), tied=True)
    assert tied.log_rates.shape == (1,)
    assert tied.rates.shape == (K,)


def test_the_start_near_an_axis_is_near_the_mean_field():
    start = VariationalLinear(K, Q, seeded(), reflections=1, rate=0.3)
    C = covariance(start).covariance
    assert (C - 0.3 * torch.eye(K)).abs().max() < 0.01


def test_the_layers_that_it_is_compared_with():
    values = torch.randn(N, K, generator=seeded(5))
    mean_field = MeanFieldLinear(K, Q, seeded(), prior_variance=0.7, deviation=0.2)
    mean_field.generator = seeded(1)
    q = torch.distributions.Normal(mean_field.weight, mean_field.log_deviation.exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 0.7**0.5)).sum()
    assert float(mean_field.kl()) == pytest.approx(float(expected), rel=1e-5)
    drawn = torch.stack([mean_field(values) for _ in range(4000)]).detach()
    variance = values.square() @ torch.full((K, Q), 0.04)
    assert (drawn.var(0) / variance - 1).abs().max() < 0.15
    dropout = DropoutLinear(K, Q, seeded(), rate=0.5)
    dropout.generator = seeded(1)
    drawn = torch.stack([dropout(values) for _ in range(4000)]).detach()
    assert (drawn.var(0) / (values.square() @ dropout.weight.square()) - 1).abs().max().item() < 0.15
    plain = Layer(K, Q, seeded())
    assert torch.equal(plain(values), values @ plain.weight)
    with pytest.raises(RuntimeError, match="has no generator"):
        VariationalLinear(K, Q, seeded())(values)


@pytest.mark.parametrize("columns", ["independent", "shared"])
def test_noise_of_a_convolution_is_on_its_input_channels(columns):
    prior = "hierarchical" if columns == "shared" else "empirical_bayes"
    layer = VariationalConv2d(3, 2, 3, seeded(), padding=1, reflections=2, columns=columns, prior=prior)
    layer.generator = seeded(1)
    images = torch.randn(N, 3, 6, 6)
    assert layer(images).shape == (N, 2, 6, 6)
    layer.noisy = False
    kernel = layer.weight.view(3, 2, 3, 3).transpose(0, 1)
    expected = torch.nn.functional.conv2d(images, kernel, layer.bias, padding=1)
    assert torch.equal(layer(images), expected)
    layer.noisy = True
    with torch.no_grad():
        mean = torch.stack([layer(images) for _ in range(2000)]).mean(0)
    assert (mean - expected).abs().max() < 0.15 * expected.std()
    assert layer.weight.shape == (3, 18)
    assert float(layer.kl()) > 0


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"reflections": K + 1}, "reflections must be in 0..5"),
        ({"rate": 0.0}, "rate must be positive"),
        ({"prior": "log_uniform", "reflections": 1}, "prior=log_uniform"),
        ({"columns": "shared"}, "infinite"),
        ({"prior": "hierarchical"}, "infinite"),
    ],
)
def test_what_has_no_divergence_is_refused(noise, message):
    with pytest.raises(ValueError, match=message):
        VariationalLinear(K, Q, seeded(), **noise)
