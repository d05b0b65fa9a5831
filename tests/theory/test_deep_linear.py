"""Deep linear networks: the recursion against sums over sets of layers and over masks; the bound and its equality."""

import math
from itertools import combinations, pairwise, product

import pytest
import torch

from repro.theory import (
    critical_penalty,
    critical_retain,
    deep_dropout_regularizer,
    dropblock_objective,
    global_minimizer,
    induced_penalty,
    rank_one_minimizer,
    regularizer_bound,
    retain_probability,
    target_spectrum,
)

FLOAT = torch.float64

# widths of the hidden layers; depth is one more
WIDTHS = [(5,), (4, 6), (3, 5, 4), (6, 2, 3, 5), (1, 1), (7, 1, 7)]


def network(widths, *, inputs=6, outputs=4, samples=9, batch=(), seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = [inputs, *widths, outputs]
    weights = [
        torch.randn(*batch, rows, columns, generator=generator, dtype=FLOAT) / columns**0.5
        for columns, rows in pairwise(sizes)
    ]
    return weights, torch.randn(inputs, samples, generator=generator, dtype=FLOAT)


def thetas(layers: int, seed: int = 0) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    return (0.2 + 0.7 * torch.rand(layers, generator=generator, dtype=FLOAT)).tolist()


def composed(weights):
    total = weights[0]
    for weight in weights[1:]:
        total = weight @ total
    return total


def sum_over_sets(weights, X, rates):
    """Σ over non-empty sets of layers i_1 < … < i_m of Π λ_i times the squared ℓ₂ norms of all paths through them."""
    layers = range(len(rates))
    sets = [chosen for size in layers for chosen in combinations(layers, size + 1)]
    assert len(sets) == 2 ** len(rates) - 1
    return sum(term(weights, X, rates, chosen) for chosen in sets)


def term(weights, X, rates, chosen):
    paths = (composed(weights[: chosen[0] + 1]) @ X).square().sum(-1)
    for here, there in pairwise(chosen):
        paths = composed(weights[here + 1 : there + 1]).square() @ paths
    out = composed(weights[chosen[-1] + 1 :]).square().sum(0)
    return math.prod(rates[i] for i in chosen) * (out * paths).sum()


@pytest.mark.parametrize("widths", WIDTHS)
def test_the_recursion_is_the_sum_over_sets_of_layers(widths):
    weights, X = network(widths)
    retain = thetas(len(widths))
    rates = [(1 - theta) / theta for theta in retain]
    found = deep_dropout_regularizer(weights, X, retain)
    torch.testing.assert_close(found, sum_over_sets(weights, X, rates), rtol=1e-12, atol=0)
    # Controls: another rate in one layer, and (with several layers) the sets of one layer alone.
    changed = [*rates[:-1], rates[-1] * (1 + 1e-9)]
    assert abs(sum_over_sets(weights, X, changed) / found - 1) > 1e-12
    if len(widths) > 1:
        single = sum(term(weights, X, rates, (i,)) for i in range(len(widths)))
        assert single < 0.99 * found


@pytest.mark.parametrize("widths", [(3,), (2, 3), (2, 2, 3), (2, 1, 2, 2)])
def test_it_is_the_mean_over_every_mask(widths):
    """All 2^Σd masks with their probabilities: the expectation itself."""
    weights, X = network(widths)
    retain = thetas(len(widths), seed=1)
    total = chance = 0.0
    plain = composed(weights) @ X
    for bits in product((0.0, 1.0), repeat=sum(widths)):
        masks = torch.tensor(bits, dtype=FLOAT).split(widths)
        hidden, weight = weights[0] @ X, 1.0
        for mask, theta, layer in zip(masks, retain, weights[1:], strict=True):
            weight *= float((mask * theta + (1 - mask) * (1 - theta)).prod())
            hidden = layer @ (mask[:, None] / theta * hidden)
        total, chance = total + weight * (hidden - plain).square().sum(), chance + weight
    assert chance == pytest.approx(1)
    torch.testing.assert_close(deep_dropout_regularizer(weights, X, retain), total, rtol=1e-12, atol=0)


def test_one_hidden_layer_is_the_single_hidden_layer_theory():
    (V, U), X = network((8,))
    Y = torch.randn(4, 9, generator=torch.Generator().manual_seed(1), dtype=FLOAT)
    for theta in (0.1, 0.5, 0.9):
        expected = dropblock_objective(U, V.mT, X, Y, 1, theta)
        found = (Y - U @ V @ X).square().sum() + deep_dropout_regularizer([V, U], X, theta)
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)
        assert abs(found / dropblock_objective(U, V.mT, X, Y, 2, theta) - 1) > 1e-3  # control: another block size
    for p in (0.2, 0.7):
        assert induced_penalty([8], retain_probability(p, 8, 1)) == pytest.approx((1 - p) / p, rel=1e-14)
    m = target_spectrum(Y, X)
    theta = 0.999 * critical_retain(m, [8])
    deep, single = rank_one_minimizer(Y, X, [8], theta), global_minimizer(Y, X, 1, 1 / (1 + (1 - theta) / theta / 8))
    torch.testing.assert_close(deep.prediction, single.prediction, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(deep.objective, single.objective, rtol=1e-14, atol=0)


def test_a_batch_is_its_entries():
    weights, X = network((4, 3), batch=(5,))
    retain = [torch.linspace(0.2, 0.8, 5, dtype=FLOAT), 0.5]
    found = deep_dropout_regularizer(weights, X, retain)
    bound = regularizer_bound(weights, X, retain)
    assert found.shape == bound.shape == (5,)
    for i in range(5):
        mine, theta = [weight[i] for weight in weights], [float(retain[0][i]), 0.5]
        torch.testing.assert_close(found[i], deep_dropout_regularizer(mine, X, theta), rtol=1e-13, atol=0)
        torch.testing.assert_close(bound[i], regularizer_bound(mine, X, theta), rtol=1e-12, atol=0)
    assert found.unique().numel() == 5


def test_it_is_differentiable():
    weights, X = network((3, 2, 3), inputs=3, outputs=2, samples=4)
    leaves = [weight.requires_grad_() for weight in weights] + [X.requires_grad_()]
    for function in (deep_dropout_regularizer, regularizer_bound):
        assert torch.autograd.gradcheck(lambda *given, f=function: f(given[:-1], given[-1], 0.4), leaves)


def test_tiny_rates_keep_their_digits():
    """θ → 1: R → λ times the sets of one layer; as a difference of two norms it would have lost ten digits."""
    weights, X = network((4, 5))
    theta = 1 - 1e-10
    rate = (1 - theta) / theta
    single = sum(term(weights, X, [rate, rate], (i,)) for i in range(2))
    found = deep_dropout_regularizer(weights, X, theta)
    torch.testing.assert_close(found, single, rtol=1e-9, atol=0)


@pytest.mark.parametrize("widths", [(5,), (4, 6), (3, 5, 4), (6, 2, 3, 5)])
def test_it_does_not_see_rescaling_between_layers(widths):
    weights, X = network(widths)
    before = deep_dropout_regularizer(weights, X, 0.6)
    generator = torch.Generator().manual_seed(3)
    scaled, mixed = list(weights), list(weights)
    for i, width in enumerate(widths):
        units = torch.exp(torch.randn(width, generator=generator, dtype=FLOAT))
        scaled[i], scaled[i + 1] = units[:, None] * scaled[i], scaled[i + 1] / units
        mixing = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=FLOAT))[0]
        mixed[i], mixed[i + 1] = mixing @ mixed[i], mixed[i + 1] @ mixing.mT
    torch.testing.assert_close(deep_dropout_regularizer(scaled, X, 0.6), before, rtol=1e-12, atol=0)
    # Control: mixing units leaves what the network computes, too, but not R.
    torch.testing.assert_close(composed(mixed), composed(weights), rtol=1e-10, atol=1e-12)
    assert abs(deep_dropout_regularizer(mixed, X, 0.6) / before - 1) > 1e-3


def test_the_bound_holds_on_ten_thousand_networks():
    smallest, count = math.inf, 0
    for seed, widths in enumerate(WIDTHS[:4] * 3):
        for scale in (1.0, 1e-3):  # all directions alike, and almost one alone
            weights, X = network(widths, batch=(417,), seed=seed)
            generator = torch.Generator().manual_seed(seed)
            weights[0] = weights[0] * torch.where(torch.arange(6) > 0, scale, 1.0)
            retain = [0.05 + 0.9 * torch.rand(417, generator=generator, dtype=FLOAT) for _ in widths]
            ratio = deep_dropout_regularizer(weights, X, retain) / regularizer_bound(weights, X, retain)
            smallest, count = min(smallest, float(ratio.min())), count + len(ratio)
    assert count >= 10_000
    assert smallest >= 1 - 1e-12
    assert smallest < 1.5  # control: a bound that is never near would not be tried


@pytest.mark.parametrize("widths", WIDTHS)
def test_a_network_of_rank_one_attains_it(widths):
    """Every unit of a layer alike, each with a sign of its own: the bound with equality."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(4, generator=generator, dtype=FLOAT), torch.randn(6, generator=generator, dtype=FLOAT)
    signs = [torch.sign(torch.randn(width, generator=generator, dtype=FLOAT)) for width in widths]
    weights = [torch.outer(signs[0], right)]
    weights += [torch.outer(after, before) for before, after in pairwise(signs)]
    weights += [torch.outer(left, signs[-1])]
    _, X = network(widths)
    retain = thetas(len(widths))
    found, bound = (f(weights, X, retain) for f in (deep_dropout_regularizer, regularizer_bound))
    torch.testing.assert_close(found, bound, rtol=1e-12, atol=0)
    if max(widths) > 1:  # control: the same map through units of unequal share
        weights[0] = weights[0].clone()
        weights[0][0] *= 1.5
        if widths[0] > 1:
            assert deep_dropout_regularizer(weights, X, retain) > bound * (1 + 1e-3)


def test_one_hidden_layer_of_equal_units_attains_it_at_any_rank():
    """A map of rank 4 whose units all carry the same: its singular vectors mixed by a Hadamard matrix."""
    hadamard = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=FLOAT) / 2
    roots = torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=FLOAT).sqrt()
    weights = [hadamard * roots, (hadamard * roots).mT]
    X = torch.eye(4, dtype=FLOAT)
    found = deep_dropout_regularizer(weights, X, 0.7)
    torch.testing.assert_close(found, regularizer_bound(weights, X, 0.7))
    torch.testing.assert_close(found, torch.tensor(0.3 / 0.7 / 4 * 6.5**2, dtype=FLOAT))


def test_nu():
    assert induced_penalty([8], 0.5) == pytest.approx(1 / 8)
    assert induced_penalty([8, 4], [0.5, 0.2]) == pytest.approx((1 + 1 / 8) * (1 + 4 / 4) - 1)
    assert induced_penalty([10**6] * 3, 1 - 1e-9) == pytest.approx(3e-15, rel=1e-6)
    found = induced_penalty([2, 2], torch.tensor([0.5, 0.25], dtype=FLOAT))
    torch.testing.assert_close(found, torch.tensor([1.25, 5.25], dtype=FLOAT))


@pytest.mark.parametrize("widths", [(8,), (16, 16), (4, 9, 30), (5, 5, 5, 5)])
def test_the_optimum_has_rank_one_up_to_the_critical_rate(widths):
    m = torch.tensor([1.0, 0.6, 0.3], dtype=FLOAT)
    assert float(critical_penalty(m)) == pytest.approx(1.5)
    theta = critical_retain(m, widths)
    assert induced_penalty(widths, theta) == pytest.approx(1.5, rel=1e-12)
    X = torch.eye(3, dtype=FLOAT)
    found = rank_one_minimizer(m.diag(), X, widths, theta * (1 - 1e-6))
    assert int(found.rank) == 1
    assert float(found.singular_values[0]) == pytest.approx(1 / 2.5, rel=1e-4)
    assert float(found.objective) == pytest.approx(0.6 + 0.09 + 0.36, rel=1e-4)  # ν/(1+ν) m_1² + m_2² + m_3²
    with pytest.raises(ValueError, match="retain must be small enough for an optimum of rank 1, got rank 2"):
        rank_one_minimizer(m.diag(), X, widths, theta * (1 + 1e-6))


def test_critical_rates_at_the_ends():
    assert critical_retain(torch.tensor([1.0, 0.0], dtype=FLOAT), [4]) == 1  # one direction anyway
    assert critical_retain(torch.tensor([2.0], dtype=FLOAT), [4, 4]) == 1
    assert critical_retain(torch.tensor([1.0, 1.0], dtype=FLOAT), [4]) == 0  # two equal ones go together


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, x: (w[:1], x, 0.5), "weights must be at least two"),
        (lambda w, x: (w, x, 1.0), r"retain must be in \(0, 1\)"),
        (lambda w, x: (w, x, [0.5]), "one for each of 2 hidden layers, got 1"),
        (lambda w, x: ([w[0], w[2]], x, 0.5), "W_2 must have 4 entries in dimension -1 to match W_1"),
        (lambda w, x: (w, x[:5], 0.5), "W_1 must have 5 entries in dimension -1 to match X"),
        (lambda w, x: (w, x * math.nan, 0.5), "X must be finite"),
        (lambda w, x: (w, x.float(), 0.5), "W_1 must have the dtype of X"),
        (lambda w, x: (w, x.expand(3, -1, -1), torch.full((2,), 0.5, dtype=FLOAT)), "must broadcast"),
        (
            lambda w, x: ([w[0], w[1].expand(3, -1, -1), w[2]], x, [0.5, torch.full((2,), 0.5, dtype=FLOAT)]),
            r"must broadcast .*got W_1 \(\), W_2 \(3,\), W_3 \(\), X \(\), retain 2 \(2,\)",
        ),
    ],
)
def test_mistakes_are_named(change, message):
    weights, X = network((4, 3))
    for function in (deep_dropout_regularizer, regularizer_bound):
        with pytest.raises(ValueError, match=message):
            function(*change(weights, X))


def test_widths_are_checked():
    for widths, message in (([], "at least one hidden layer"), ([4, 0], "width must be at least 1")):
        with pytest.raises(ValueError, match=message):
            induced_penalty(widths, 0.5)


def test_rates_of_any_batch_shape():
    weights, X = network((4, 3), batch=(2, 5))
    rates = 0.3 + 0.05 * torch.arange(10, dtype=FLOAT).reshape(2, 5)
    found = deep_dropout_regularizer(weights, X, rates)
    for i, j in product(range(2), range(5)):
        alone = [weight[i, j] for weight in weights]
        torch.testing.assert_close(found[i, j], deep_dropout_regularizer(alone, X, float(rates[i, j])))
        torch.testing.assert_close(found[i, j], deep_dropout_regularizer(alone, X, rates[i, j]))


def test_critical_penalties_of_short_and_empty_spectra():
    assert critical_penalty(torch.ones(3, 1, dtype=FLOAT)).tolist() == [0, 0, 0]
    assert critical_penalty(torch.zeros(2, dtype=FLOAT)) == 0


def test_a_critical_penalty_of_one_is_one_like_others():
    assert critical_retain(torch.tensor([2.0, 1.0], dtype=FLOAT), [4]) == pytest.approx(1 / (1 + 4), rel=1e-14)


def test_small_critical_rates_are_exact_to_rounding():
    """(1 + x/2)(1 + x/3) − 1 = ν for small ν: x is the root of a quadratic."""
    penalty = 1e-6
    spectrum = torch.tensor([1 + penalty, penalty], dtype=FLOAT)  # ν = m_2 / (m_1 − m_2)
    rate = 12 * penalty / (5 + math.sqrt(25 + 24 * penalty))
    assert critical_retain(spectrum, [2, 3]) == pytest.approx(1 / (1 + rate), rel=0, abs=1e-15)
