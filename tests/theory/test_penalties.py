"""Penalties against their definitions: conjugates and proxes by brute force, η̂ by differences, and the integral."""

import dataclasses
import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import quad

from repro.theory.penalties import (
    L1,
    MCP,
    SCAD,
    HardConcrete,
    HardThreshold,
    LogSquare,
    LogSum,
    Lp,
    Standout,
    VariationalDropout,
    WithProx,
    effective_penalty,
)
from repro.theory.penalties.base import bisected

ALL = [
    L1(), Lp(0.5), Lp(0.9), Lp(1.3), Lp(1.9), LogSum(2.0), LogSum(1.0), LogSum(0.03), LogSquare(0.3), LogSquare(1.0),
    MCP(3.0, 0.4), MCP(0.5, 2**0.5), SCAD(3.7, 0.4), SCAD(1.5, 2.0), Standout(1.5, -1.0, 0.3), VariationalDropout(),
    VariationalDropout(approximate=True), HardConcrete(), HardConcrete(0.5, -0.3, 1.2),
]  # fmt: skip
PROX = [penalty for penalty in ALL if isinstance(penalty, WithProx)]
EVERYWHERE = [
    0.0,
    1e-300,
    1e-20,
    1e-8,
    1e-3,
    0.1,
    0.4,
    0.7,
    1.0,
    1.2,
    2**0.5 / 2,
    3.0,
    40.0,
    1e6,
    1e20,
    1e300,
    math.inf,
]


def float64(*values):
    return torch.tensor(values, dtype=torch.float64)


def randoms(seed, low=-4, high=1.5, size=60):
    return 10 ** torch.empty(size, dtype=torch.float64).uniform_(low, high, generator=torch.manual_seed(seed))


@pytest.fixture(params=ALL, ids=repr)
def penalty(request):
    return request.param


# ---------------------------------------------------------------------- the definitions


def test_eta_is_w_over_the_slope(penalty):
    w = randoms(0)
    if isinstance(penalty, HardConcrete):
        w = w[(w - penalty.flat).abs() > 1e-4]
    step = 1e-5 * w
    slope = (penalty.value(w + step) - penalty.value(w - step)) / (2 * step)
    expected = torch.where(slope.abs() > 1e-9, w / slope, math.inf)
    known = expected < 1e4 if not isinstance(penalty, Lp | L1) else expected < math.inf
    torch.testing.assert_close(penalty.eta(w)[known], expected[known], rtol=2e-4, atol=1e-9)


def test_value_is_the_minimum_over_eta(penalty):
    w = randoms(1)
    eta = torch.logspace(-12, 8, 4001, dtype=torch.float64)
    f = penalty.dual(eta)
    tried = (w[:, None] ** 2 / eta + f) / 2
    assert (penalty.value(w)[:, None] <= tried + 1e-12 * (1 + tried.abs())).all()
    at = penalty.eta(w)
    attained = (torch.where(at.isinf(), 0.0, w**2 / at) + penalty.dual(at)) / 2
    torch.testing.assert_close(attained, penalty.value(w), rtol=1e-12, atol=1e-13)


def test_the_dual_is_the_conjugate(penalty):
    eta = randoms(2, -3, 1)
    points = 20001 if isinstance(penalty, HardConcrete) else 200001
    w = torch.cat([float64(0.0), torch.logspace(-8, 8, points, dtype=torch.float64)])
    brute = (2 * penalty.value(w) - w**2 / eta[:, None]).max(1).values
    found = penalty.dual(eta)
    if isinstance(penalty, HardConcrete):  # P(s≠0) is above its hull where η̂ jumps
        last = penalty.eta(float64(penalty.flat * (1 - 1e-9)))
        assert ((found - brute)[eta > last] > -1e-9).all()
        assert ((found - brute)[eta > last] < 0.01).all()
        found, brute = found[eta <= last], brute[eta <= last]
    torch.testing.assert_close(found, brute, rtol=1e-6 if points > 1e5 else 3e-6, atol=1e-8)


def test_a_wrong_dual_is_seen():
    eta = randoms(2, -3, 1)
    w = torch.logspace(-8, 8, 200001, dtype=torch.float64)
    brute = (2 * LogSum(1.0).value(w) - w**2 / eta[:, None]).max(1).values
    assert (LogSum(1.1).dual(eta) - brute).abs().max() > 1e-3


@pytest.mark.parametrize("penalty", PROX, ids=repr)
@pytest.mark.parametrize("weight", [0.02, 0.3, 1.0, 2.5, 9.0])
def test_the_prox_is_the_global_minimiser(penalty, weight):
    z = torch.cat([randoms(3), float64(0.0, weight, weight / 2, 0.4, 1.2, 2**0.5 / 2, 0.8)])

    def objective(w):
        return (w - z[..., None]) ** 2 / 2 + weight * penalty.value(w)

    grid = torch.cat([torch.linspace(0, 1.2, 20001, dtype=torch.float64), float64(0.0)]) * z[:, None]
    best = objective(grid).min(-1).values
    found = penalty.prox(z, weight)
    reached = objective(found[:, None])[:, 0]
    scale = reached.abs() + z**2
    assert (reached <= best + 1e-14 * scale).all()
    # and it is stationary to rounding, not to the grid
    inside = (found > 0) & (found < z)
    slope = penalty.eta(found)[inside]
    residual = found[inside] - z[inside] + weight * found[inside] / slope
    kinks = torch.tensor([0.4, 2.0], dtype=torch.float64)
    smooth = ((found[inside, None] - kinks).abs() > 1e-6).all(-1)
    assert (residual[smooth].abs() <= 1e-9 * z[inside][smooth] + 1e-300).all()


def test_closed_proxes():
    z = torch.linspace(-4, 4, 81, dtype=torch.float64)
    torch.testing.assert_close(L1().prox(z, 0.7), z.sign() * (z.abs() - 0.7).clamp_min(0))
    torch.testing.assert_close(Lp(1.0).prox(z, 0.7), L1().prox(z, 0.7))
    half = Lp(0.5).prox(z.abs(), 0.3)  # Xu et al. (2012): (2/3) z (1 + cos(2π/3 − (2/3) acos(...)))
    kept = half > 0
    at, k = z.abs()[kept], 0.6  # of k √w
    angle = torch.acos(k / 4 * (at / 3) ** -1.5)
    torch.testing.assert_close(half[kept], 2 / 3 * at * (1 + torch.cos(2 * math.pi / 3 - 2 / 3 * angle)))
    torch.testing.assert_close(at.min(), z.abs()[z.abs() > 1.5 * k ** (2 / 3)].min())
    # MCP beyond its knee is a hard threshold
    torch.testing.assert_close(MCP(3.0, 0.1).prox(float64(0.5, 0.78, -2.0), 1.0), float64(0.0, 0.78, -2.0))
    assert LogSum(0.1).prox(float64(0.3), 0.01) > 0


def test_the_prox_of_log_square_is_the_best_root_of_its_cubic():
    """Where its slope rises, falls and rises again: 2c > 8 in (u − v)(1 + u²) + 2cu = 0."""
    for c in (3.9, 4.0, 4.01, 4.02, 4.1, 5.0, 6.5, 12.0, 40.0, 400.0):
        spread = math.sqrt(max(c * (c - 4), 0))
        falls = [u + 2 * c * u / (1 + u * u) for u in ((c - 1 + spread) ** 0.5, (c - 1 - spread) ** 0.5)]
        z = torch.cat([torch.linspace(0.1, 4 * c**0.5, 20).double(), torch.linspace(*falls, 40, dtype=torch.float64)])
        for v, found in zip(z.tolist(), LogSquare(1.0).prox(z, c).tolist(), strict=True):
            roots = np.roots([1, -v, 1 + 2 * c, -v])
            real = roots[np.abs(roots.imag) < 1e-6].real
            heights = (real - v) ** 2 / 2 + c * np.log1p(real**2)
            assert (found - v) ** 2 / 2 + c * math.log1p(found**2) <= heights.min() + 1e-12 * v * v, (c, v)


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_the_prox_of_lp_is_exact_where_it_leaves_zero(p):
    """w* = (2k(1−p)/p)^(1/(2−p)) is the prox of w*(2−p)/(2(1−p)), and 0 ties with it."""
    k = torch.logspace(-3, 3, 25, dtype=torch.float64)
    tie = (2 * k * (1 - p) / p) ** (1 / (2 - p))
    z = tie * (2 - p) / (2 * (1 - p))
    assert (Lp(p).prox(z * (1 - 1e-9), k) == 0).all()
    for share in (1 + 1e-9, 1.01, 1.5, 10.0):
        w = Lp(p).prox(z * share, k)
        assert (w > tie).all()
        assert ((w - z * share + k * w ** (p - 1)).abs() < 3e-15 * z * share).all()


# ---------------------------------------------------------------------- against other arithmetic


REFERENCES = {
    L1(): (lambda w: w, lambda eta: eta),
    Lp(0.5): (lambda w: 2 * w**0.5, lambda eta: 3 * eta ** (mpmath.mpf(1) / 3)),
    LogSum(2.0): (
        lambda w: mpmath.log(w + 2),
        lambda eta: 2 * mpmath.log((mpmath.sqrt(4 + 4 * eta) + 2) / 2)
        - ((mpmath.sqrt(4 + 4 * eta) - 2) ** 2 / (4 * eta) if eta else 0),
    ),
    LogSum(1.0): (
        lambda w: mpmath.log(w + 1),
        lambda eta: 2 * mpmath.log((mpmath.sqrt(1 + 4 * eta) + 1) / 2)
        - ((mpmath.sqrt(1 + 4 * eta) - 1) ** 2 / (4 * eta) if eta else 0),
    ),
    LogSquare(1.0): (
        lambda w: mpmath.log(w * w + 1),
        lambda eta: 2 * mpmath.log(2 * eta) - 2 + 1 / eta if 2 * eta >= 1 else mpmath.mpf(0),
    ),
    MCP(3.0, 0.5): (
        lambda w: w - w * w / 3 if w < 1.5 else mpmath.mpf(0.75),
        lambda eta: mpmath.mpf(1.5) * eta / (eta + mpmath.mpf(1.5)),
    ),
    SCAD(3.0, 0.5): (
        lambda w: w if w <= 0.5 else (3 * w - w * w - mpmath.mpf(0.25)) / 2 if w < 1.5 else mpmath.mpf(1),
        lambda eta: eta if eta <= 0.5 else (4 * eta - mpmath.mpf(0.5)) / (2 + 2 * eta),
    ),
    Standout(2.0, 0.3, 0.7): (
        lambda w: mpmath.exp(-mpmath.mpf(0.3)) / (mpmath.mpf(0.7) * 4) * (1 - (1 + 2 * w) * mpmath.exp(-2 * w)),
        None,
    ),
    VariationalDropout(): (
        None,
        lambda eta: eta * mpmath.hyp2f2(1, 1, mpmath.mpf(3) / 2, 2, -eta / 2) if eta < 200
        else mpmath.log(2 * eta) + mpmath.euler
        - sum(mpmath.fac2(2 * k - 1) / (k * eta**k) for k in range(1, 25)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("penalty", REFERENCES, ids=repr)
def test_values_against_fifty_digits(penalty):
    value, dual = REFERENCES[penalty]
    finite = [x for x in [*EVERYWHERE, *randoms(4, -6, 6, 20).tolist()] if x < math.inf]
    with mpmath.workdps(700):
        for x in finite:
            for exact, found in ((value, penalty.value), (dual, penalty.dual)):
                if exact is not None:
                    expected = float(exact(mpmath.mpf(x)))
                    assert float(found(float64(x))) == pytest.approx(expected, rel=1e-12, abs=1e-320), x


def test_nothing_is_lost_between_the_smallest_and_the_largest_numbers(penalty):
    w = float64(*EVERYWHERE).sort().values
    for found in (penalty.value(w), penalty.eta(w), penalty.dual(w), penalty.retain(w, 0.4)):
        assert not found.isnan().any()
        assert (found.diff()[~found.diff().isnan()] >= -1e-15).all()  # all of them increase
    alpha = penalty.retain(w, 0.4)
    assert ((alpha >= 0) & (alpha <= 1)).all()
    if isinstance(penalty, WithProx):
        small, large = penalty.prox(w, 1e-4), penalty.prox(w, 5.0)
        assert (small <= w).all()
        assert (large <= small).all()
        assert not small.isnan().any()
        # far out every one of these leaves z alone, to its own slope
        assert float(small[-2]) == pytest.approx(1e300)


@pytest.mark.parametrize("ends", [(1e-6, 1e6), (1e-9, 1e-9), (1e6, 1e-6)])
def test_proxes_between_the_smallest_and_the_largest_numbers(ends):
    """Parameters and weights many decades apart: z − weight·Ω'(z) far out, 0 or that of the slope at 0 near it."""
    scale, weight = ends
    largest = float64(1e300, 1.7e308)
    for penalty in (LogSum(scale), LogSquare(scale), MCP(2.0, scale), SCAD(3.0, scale), Lp(0.5)):
        torch.testing.assert_close(penalty.prox(largest, weight), largest)
        assert penalty.prox(float64(0.0), weight).tolist() == [0.0]
    torch.testing.assert_close(LogSum(scale).prox(float64(1e300), 1e300), float64(1e300))
    torch.testing.assert_close(LogSquare(scale).prox(float64(1e300), 1e300), float64(1e300))
    tiny = float64(1e-300, 1e-200, 1e-20)
    torch.testing.assert_close(LogSquare(scale).prox(tiny, weight) / tiny, 1 / (1 + 2 * weight / float64(*[scale] * 3)))
    huge = LogSquare(0.3).prox(float64(1.0, 1e-150), 1e300)
    torch.testing.assert_close(huge, float64(1.5e-301, 0.0), rtol=1e-9, atol=0)
    assert (MCP(2.0, scale).prox(tiny, 1.0) == 0).all()
    assert (LogSum(scale).prox(tiny, scale) == 0).all()
    torch.testing.assert_close(Standout(scale, 0.1, 0.3).dual(largest), 2 * Standout(scale, 0.1, 0.3).value(largest))


def test_far_beyond_the_length_of_a_penalty():
    """Where quotients overflow, and where a large z is nothing beside k·Ω(∞)."""
    torch.testing.assert_close(LogSquare(1e-300).dual(float64(1e10)), 2 * float64(2e10).log() - 2, rtol=1e-14, atol=0)
    scad, heavy = SCAD(3.0, 1e10), 1e28  # Ω(∞) = 2·scale, and 0 is left at z = √(2k·Ω(∞))
    assert scad.prox(float64(1.9e19, 2.1e19), heavy).tolist() == [0.0, 2.1e19]


def test_slopes_at_zero():
    """w/Ω(w) → 1/Ω'(0⁺): exact where it is 1, and where gates have it by quadrature."""
    w = float64(1e-300, 1e-30)
    for penalty in (L1(), MCP(2.0, 0.3), SCAD(3.0, 0.2), VariationalDropout()):
        torch.testing.assert_close(penalty.value(w) / w, float64(1.0, 1.0), rtol=1e-13, atol=0)
        torch.testing.assert_close(penalty.eta(w), w, rtol=1e-13, atol=0)
    torch.testing.assert_close(LogSum(0.2).eta(w), 0.2 * w, rtol=1e-13, atol=0)
    gates = HardConcrete()
    torch.testing.assert_close(gates.value(w) / w, w / gates.eta(w), rtol=1e-12, atol=0)
    assert float(gates.value(w)[0] / w[0]) == pytest.approx(1.4752, rel=1e-4)


def test_shifts_and_scales():
    w, eta = randoms(5), randoms(6)
    torch.testing.assert_close(MCP(1.5, 0.4).value(w), MCP(0.4, 1.5).value(w))  # m alone counts
    lam, a = 0.3, 3.7  # the textbook's SCAD
    textbook = torch.where(w <= lam, lam * w, (2 * a * lam * w - w**2 - lam**2) / (2 * (a - 1)))
    textbook = torch.where(w >= a * lam, lam**2 * (a + 1) / 2, textbook)
    torch.testing.assert_close(lam * SCAD(a, lam).value(w), textbook)
    torch.testing.assert_close(LogSum(0.5).value(3 * w), LogSum(0.5 / 3).value(w) + math.log(3))
    torch.testing.assert_close(LogSum(0.5).dual(9 * eta), LogSum(0.5 / 3).dual(eta) + 2 * math.log(3))


# ---------------------------------------------------------------------- Bayesian strategies


def test_variational_dropout_by_its_divergence():
    """f' = 2 dKL/dη with KL = E log|√η + z|, by quadrature over z."""
    penalty, eta = VariationalDropout(), float64(0.05, 0.7, 3.0, 12.0)

    def divergence(at):
        with mpmath.workdps(20):
            root = math.sqrt(at)
            return float(
                mpmath.quad(lambda z: mpmath.log(abs(root + z)) * mpmath.npdf(z), [-12, -root, 12], maxdegree=8)
            )

    expected = float64(*(2 * (divergence(x) - divergence(0.0)) for x in eta.tolist()))
    torch.testing.assert_close(penalty.dual(eta), expected, rtol=1e-6, atol=1e-8)
    far = float64(1e6)
    assert float(penalty.dual(far) - far.log()) == pytest.approx(0.5772156649 + math.log(2), abs=1e-5)


def test_the_fit_of_the_divergence_is_near_it():
    eta = torch.logspace(-3, 4, 50, dtype=torch.float64)
    exact, fit = VariationalDropout().dual(eta), VariationalDropout(approximate=True).dual(eta)
    assert 1e-3 < (exact - fit).abs().max() < 0.05


@pytest.mark.parametrize("gates", [HardConcrete(), HardConcrete(0.5, -0.3, 1.2)], ids=repr)
def test_gates_by_sampling_and_by_brute_force(gates):
    location = 1.3
    u = torch.rand(2_000_000, dtype=torch.float64, generator=torch.manual_seed(0))
    stretched = torch.sigmoid((torch.logit(u) + location) / gates.beta) * (gates.zeta - gates.gamma) + gates.gamma
    s = stretched.clamp(0, 1)
    eta = s.mean() ** 2 / s.var()
    assert float(gates.dual(eta[None])) == pytest.approx(float((s > 0).double().mean()), abs=2e-3)
    # Ω by brute force over ℓ, moments by another quadrature
    locations = np.linspace(-12, 14, 521)

    def moment(power, ell):
        def share(x):
            return 1 / (1 + math.exp(gates.beta * math.log((x - gates.gamma) / (gates.zeta - x)) - ell))

        return quad(lambda x: power * x ** (power - 1) * share(x), 0, 1)[0]

    moments = np.array([[moment(1, ell), moment(2, ell)] for ell in locations])
    variance = moments[:, 1] / moments[:, 0] ** 2 - 1
    shown = 1 / (1 + np.exp(gates.beta * math.log(-gates.gamma / gates.zeta) - locations))
    for w in (0.01, 0.1, 0.3, 0.6, 2.0):
        brute = 0.5 * min((w**2 * variance + shown).min(), 1.0)
        assert float(gates.value(float64(w))) == pytest.approx(brute, abs=2e-4)
        assert float(gates.value(float64(w))) <= brute + 1e-12
    flat = gates.flat
    assert float(gates.value(float64(flat * (1 - 1e-7)))) == pytest.approx(0.5, abs=1e-6)
    assert float(gates.eta(float64(flat))) == math.inf


# ---------------------------------------------------------------------- vectors


def test_hard_threshold():
    w = float64(0.3, -2.0, 0.0, 1.0)
    keep = HardThreshold(2)
    assert keep.prox(w).tolist() == [0, -2, 0, 1]
    assert keep.eta(w).tolist() == [0, math.inf, 0, math.inf]
    assert keep.retain(w, 0.1).tolist() == [0, 1, 0, 1]
    assert float(keep.value(w)) == math.inf
    assert float(keep.value(keep.prox(w))) == 0
    assert float(keep.dual(keep.eta(w))) == 0
    assert keep.value(torch.zeros(3, 2, 4, dtype=torch.float64)).shape == (3, 2)
    assert (HardThreshold(2).prox(torch.ones(5, 4, dtype=torch.float64)) > 0).sum(-1).tolist() == [2] * 5
    assert keep.retain(w).tolist() == [0, 1, 0, 1]
    assert HardThreshold(9).prox(w).tolist() == w.tolist()
    assert HardThreshold(9).eta(w).tolist() == [math.inf, math.inf, 0, math.inf]
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        HardThreshold(0)


# ---------------------------------------------------------------------- tensors


def test_batches_signs_and_types(penalty):
    w = randoms(7, size=24)
    for name in ("value", "eta", "dual"):
        method = getattr(penalty, name)
        one_by_one = torch.stack([method(x) for x in w])
        torch.testing.assert_close(method(w.reshape(2, 3, 4)).flatten(), one_by_one, rtol=1e-12, atol=0)
        assert method(w.float()).dtype == torch.float32
        assert method(w[:0]).shape == (0,)
    torch.testing.assert_close(penalty.value(-w), penalty.value(w))
    weights = randoms(8, size=3)[:, None]
    each = torch.stack([penalty.retain(w, float(weight)) for weight in weights])
    torch.testing.assert_close(penalty.retain(w.expand(3, 24), weights), each, rtol=1e-12, atol=0)
    if isinstance(penalty, WithProx):
        torch.testing.assert_close(penalty.prox(-w, 0.3), -penalty.prox(w, 0.3))
        each = torch.stack([penalty.prox(w, float(weight)) for weight in weights])
        torch.testing.assert_close(penalty.prox(w.expand(3, 24), weights), each, rtol=1e-12, atol=0)


def test_gradients(penalty):
    w = randoms(9, -1, 0.7, 12)
    w = w[(penalty.eta(w) < math.inf)]
    calls = [penalty.value, penalty.eta, penalty.dual, lambda v: penalty.retain(v, 0.4)]
    if isinstance(penalty, WithProx):
        calls.append(lambda v: penalty.prox(v, 0.35))
        weight = float64(0.35).requires_grad_()
        assert torch.autograd.gradcheck(lambda k: penalty.prox(w, k), (weight,), eps=1e-7, atol=1e-5)
    for call in calls:
        assert torch.autograd.gradcheck(call, (w.clone().requires_grad_(),), eps=1e-7, atol=2e-5)


@pytest.mark.parametrize("penalty", [one for one in ALL if not isinstance(one, HardConcrete)], ids=repr)
def test_the_slope_of_the_dual_at_zero(penalty):
    at, step = float64(0.0).requires_grad_(), float64(1e-9)
    (slope,) = torch.autograd.grad(penalty.dual(at), at)
    expected = (penalty.dual(step) - penalty.dual(float64(0.0))) / step
    if isinstance(penalty, Lp):  # η^(q−1) with q = p/(2−p)
        expected = float64(math.inf if penalty.p < 1 else 0.0)
    torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weight", [0.4, 2.0, 9.0])
def test_gradients_of_proxes_of_heavy_weights(weight):
    """Also where a piece of SCAD has no minimum of its own, or is straight: a − 1 = weight/scale."""
    for penalty in (*PROX, SCAD(2.0, 0.4), SCAD(6.0, 0.4)):
        z, k = float64(0.05, 0.9, 7.0, 31.0).requires_grad_(), float64(weight).requires_grad_()
        assert torch.autograd.gradcheck(penalty.prox, (z, k), eps=1e-7, atol=2e-5)


# ---------------------------------------------------------------------- parts


def test_penalties_of_equal_parameters_are_equal_and_do_not_change(penalty):
    assert dataclasses.replace(penalty) == penalty
    assert len({dataclasses.replace(penalty), penalty}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        penalty.p = 1.0


@pytest.mark.parametrize("part", ["_value", "_eta", "_dual", "_prox"])
def test_a_penalty_has_all_its_parts(part):
    others = {name: getattr(L1, name) for name in ("_value", "_eta", "_dual", "_prox") if name != part}
    with pytest.raises(TypeError, match=part):
        type("Partial", (WithProx,), others)()


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_a_bisection_halves_at_each_step(steps):
    roots = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    found = bisected(lambda x: x - roots, torch.zeros_like(roots), torch.ones_like(roots), steps)
    assert ((found - roots).abs() <= 0.5 ** (steps + 1) * (1 + 1e-12)).all()


# ---------------------------------------------------------------------- the integral


def strategy_of(penalty, weight):
    return lambda v: penalty.retain(v, weight)


def test_the_integral_of_a_strategy_is_its_penalty(penalty):
    weight = penalty.weight if isinstance(penalty, Standout) else 0.37
    w = torch.cat([float64(0.0), randoms(10, -3, 1.3, 40), float64(1.2, 0.4, 2**0.5 / 2)])
    expected = penalty.value(w) - penalty.value(float64(0.0))
    found = effective_penalty(strategy_of(penalty, weight), w, weight)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)
    both = effective_penalty(penalty.retain, w[:4], weight)  # a function of v and the weight
    torch.testing.assert_close(both, expected[:4], rtol=1e-9, atol=1e-13)
    slope = w.clone().requires_grad_()
    effective_penalty(strategy_of(penalty, weight), slope, weight).sum().backward()
    at = penalty.eta(w)
    usual = (w > 0) & (at < 1e6)
    torch.testing.assert_close(slope.grad[usual], (w / at)[usual], rtol=1e-6, atol=1e-9)


def test_the_integral_of_other_strategies():
    w = torch.tensor([[0.5, -2.0], [0.0, 7.0]], dtype=torch.float64)
    constant = effective_penalty(lambda v: torch.full_like(v, 0.25), w, 0.5)
    torch.testing.assert_close(constant, 3 * w**2 / 2 / 0.5)  # ridge
    steps = effective_penalty(lambda v: torch.where(v < 1.0, 0.5, 1.0).double(), w, 1.0)  # a jump
    torch.testing.assert_close(steps, w.abs().clamp(max=1) ** 2 / 2, rtol=1e-8, atol=0)
    falling = effective_penalty(lambda v: 1 / (1 + 0.3 * (1 + v)), w, 1.0)
    torch.testing.assert_close(falling, 0.3 * (w**2 / 2 + w.abs() ** 3 / 3))
    never = effective_penalty(lambda v: torch.where(v < 1.0, 0.0, 1.0).double(), w, 1.0)
    assert never.tolist() == [[math.inf, math.inf], [0.0, math.inf]]
    tiny = float64(1e-300, 1e-200, 1e-3)
    torch.testing.assert_close(effective_penalty(L1().retain, tiny, 2.0), tiny, rtol=1e-9, atol=0)
    root = effective_penalty(Lp(0.5).retain, tiny, 2.0)
    torch.testing.assert_close(root, 2 * tiny.sqrt(), rtol=1e-9, atol=0)
    for one in w.flatten():  # one w alone
        cubic = effective_penalty(lambda v: 1 / (1 + v), one, 1.0)  # nothing is dropped near 0
        torch.testing.assert_close(cubic, one.abs() ** 3 / 3, rtol=1e-9, atol=0)
    built_in = effective_penalty(torch.sigmoid, w, 1.0)  # has no signature to look at
    torch.testing.assert_close(built_in, 1 - (1 + w.abs()) * (-w.abs()).exp(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("unit", [1e-8, 1e-3, 1e3, 1e15])
def test_the_integral_of_a_jump_in_other_units(unit):
    w = float64(0.5, 1.3, 3.0)
    found = effective_penalty(lambda v: torch.where(v < unit, 0.5, 1.0).double(), unit * w, 1.0)
    torch.testing.assert_close(found / unit**2, w.clamp(max=1) ** 2 / 2, rtol=1e-8, atol=0)


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lp(2.0), r"p must be in \(0, 2\), ends excluded, got 2.0"),
        (lambda: Lp(0.0), r"p must be in \(0, 2\), ends excluded, got 0.0"),
        (lambda: Lp(math.nan), r"p must be in \(0, 2\)"),
        (lambda: LogSum(0.0), r"epsilon must be in \(0, inf\), got 0.0"),
        (lambda: LogSquare(-1.0), r"epsilon must be in \(0, inf\), got -1.0"),
        (lambda: MCP(0.0, 1.0), r"a must be in \(0, inf\), got 0.0"),
        (lambda: MCP(1.0, math.inf), r"scale must be in \(0, inf\), got inf"),
        (lambda: SCAD(1.0, 1.0), r"a must be in \(1, inf\), got 1.0"),
        (lambda: Standout(0.0, 0.0, 1.0), r"slope must be in \(0, inf\), got 0.0"),
        (lambda: Standout(1.0, math.nan, 1.0), "offset must be finite, got nan"),
        (lambda: HardConcrete(gamma=0.1), r"gamma must be in \(-inf, 0\), got 0.1"),
        (lambda: HardConcrete(zeta=1.0), r"zeta must be in \(1, inf\), got 1.0"),
        (lambda: L1().retain(float64(1.0), 0.0), r"weight must be in \(0, inf\), got 0.0"),
        (lambda: L1().prox(float64(1.0), float64(1.0, -2.0)), r"weight must be in \(0, inf\), got values from -2"),
        (lambda: L1().value(float64(math.nan)), "w must not be NaN, got 1 of 1 entries"),
        (lambda: L1().value(torch.ones(2).half()), "w must be float32 or float64, got torch.float16"),
        (lambda: L1().dual(float64(-1.0)), r"eta must be in \[0, inf\], got -1.0"),
        (lambda: HardThreshold(1).value(float64()), r"w must have shape \(\*batch, n\) with n >= 1, got \(0,\)"),
    ],
)  # fmt: skip
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("retain", "message"),
    [
        (lambda v: v, r"retain must be in \[0, 1\], got .* at "),
        (lambda v: v - 2, r"retain must be in \[0, 1\], got -"),
        (lambda v: torch.full_like(v, math.nan), r"retain must be in \[0, 1\], got nan at "),
        (lambda v: 1 / 0, "retain fails on a float64 vector: ZeroDivisionError: division by zero"),
        (lambda v: {}["y" * 300], r"KeyError: 'y{199}$"),
        (lambda v: 0.5, r"retain must return a tensor of the shape of its argument, \(\d+,\), got float"),
        (lambda v: v[:3] / (1 + v[:3]), r"retain must return a tensor of .* got shape \(3,\)"),
    ],
)
def test_strategies_that_are_none(retain, message):
    with pytest.raises(ValueError, match=message) as caught:
        effective_penalty(retain, float64(0.5, 3.0), 0.5)
    assert "\n" not in str(caught.value)


def test_where_the_integral_is_asked():
    with pytest.raises(ValueError, match=r"weight must be in \(0, inf\), got 0"):
        effective_penalty(L1().retain, float64(1.0), 0)
    with pytest.raises(ValueError, match="w must be finite, got 1 infinite of 2 entries"):
        effective_penalty(L1().retain, float64(1.0, math.inf), 1.0)
