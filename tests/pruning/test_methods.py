"""Ways to prune a layer: who goes, when, under which penalties; and a state that goes on with the same numbers."""

import math

import pytest
import torch
from torch import Generator, nn

from repro.pruning import AFP, GReg1, GReg2, GroupLasso, Groups, IncReg, LargestL1, OneShot, Random, removal_times

N, RATIO, TARGET = 12, 0.7, 9


def made(name):
    generator = Generator().manual_seed(3)
    return {
        "one-shot": lambda: OneShot(N, RATIO),
        "largest": lambda: LargestL1(N, RATIO),
        "random": lambda: Random(N, RATIO, generator),
        "group lasso": lambda: GroupLasso(N, RATIO, 0.1, 40),
        "AFP": lambda: AFP(N, RATIO, 0.1, 40),
        "GReg-1": lambda: GReg1(N, RATIO, 0.01, 0.4),
        "GReg-2": lambda: GReg2(N, RATIO, 0.01, 0.4, 0.2),
        "IncReg": lambda: IncReg(N, RATIO, 0.01, 0.1),
    }[name]()


NAMES = ("one-shot", "largest", "random", "group lasso", "AFP", "GReg-1", "GReg-2", "IncReg")


def noisy(steps):
    """Scores whose order wavers, the same at each call."""
    generator = Generator().manual_seed(0)
    return [torch.arange(1.0, N + 1) + 2 * torch.rand(N, generator=generator) for _ in range(steps)]


def driven(method, scores):
    return [method.update(values, values / 3).clone() for values in scores]


@pytest.mark.parametrize("name", NAMES)
def test_the_target_is_met_exactly_and_nothing_comes_after(name):
    method = made(name)
    steps = 0
    while not method.done:
        values = noisy(1)[0]
        penalties = method.update(values, values)
        assert penalties.isfinite().all()
        assert (penalties[~method.alive] == 0).all()
        steps += 1
        assert steps < 1000
    assert method.removed == TARGET == method.target
    assert (method.penalties == 0).all()
    before = method.state_dict()
    method.update(noisy(1)[0], noisy(1)[0])
    assert all((before[key] == value).all() if key != "updates" else before[key] == value
               for key, value in method.state_dict().items())  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stop", [0, 1, 5, 17])
def test_a_state_goes_on_with_the_same_numbers(name, stop):
    scores = noisy(60)
    whole, first, second = made(name), made(name), made(name)
    expected = driven(whole, scores)
    driven(first, scores[:stop])
    state = first.state_dict()
    driven(first, scores[stop:])  # of which the state knows nothing
    second.load_state_dict(state)
    found = driven(second, scores[stop:])
    torch.testing.assert_close(found, expected[stop:], rtol=0, atol=0)
    assert torch.equal(second.alive, whole.alive)


def test_a_state_of_another_method_is_refused():
    with pytest.raises(ValueError, match="a state of IncReg has"):
        made("IncReg").load_state_dict(made("one-shot").state_dict())
    with pytest.raises(ValueError, match=r"alive of the state must have shape \(12,\)"):
        made("one-shot").load_state_dict(OneShot(5, 0.5).state_dict())


def test_who_goes_at_once():
    scores = torch.tensor([5.0, 1, 4, 2, 3])
    methods = [OneShot(5, 0.4), LargestL1(5, 0.4)]
    for method in methods:
        method.update(scores)
    assert [method.alive.tolist() for method in methods] == [[1, 0, 1, 0, 1], [0, 1, 0, 1, 1]]
    drawn = [Random(50, 0.5, Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    for method in drawn:
        method.update(torch.arange(50.0))
    assert torch.equal(drawn[0].alive, drawn[1].alive)
    assert not torch.equal(drawn[0].alive, drawn[2].alive)


def test_afp_pulls_down_the_low_what_it_lifts_of_the_others():
    layer = nn.Linear(30, N)
    groups = Groups(layer, "filter")
    method = AFP(N, RATIO, 0.3, 10)
    factors = method.update(groups.scores(), groups.norms())
    order = groups.scores().argsort()
    low, high = order[:TARGET], order[TARGET:]
    assert (factors[low] > 0).all()
    assert (factors[high] < 0).all()
    assert factors[low[-1]] == pytest.approx(0.3)  # c = 1 at M = θ
    assert factors[low].diff().max() < 0
    weight = groups.norms().double().square()
    assert (factors * weight).sum().item() == pytest.approx(0, abs=1e-6)
    expected = 0.3 * (1 + math.log(groups.scores()[low[-1]] / groups.scores()[low[0]]))
    assert factors[low[0]] == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_the_group_lasso():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 8, 3)
    groups = Groups(layer, "column")
    penalty = 0.2 * layer.weight.flatten(1).norm(dim=0).sum()
    (expected,) = torch.autograd.grad(penalty, layer.weight)
    layer.weight.grad = torch.zeros_like(layer.weight)
    groups.penalize_(GroupLasso(len(groups), 0.5, 0.2, 3).update(groups.scores(), groups.norms()))
    torch.testing.assert_close(layer.weight.grad, expected)


def test_greg_1_keeps_to_its_first_choice():
    method = made("GReg-1")
    rising = torch.arange(1.0, N + 1)
    first = method.update(rising)
    assert first.tolist() == [0.01] * TARGET + [0] * (N - TARGET)
    for _ in range(38):
        method.update(rising.flip(0))
    assert method.removed == 0
    method.update(rising.flip(0))
    assert method.updates == 40
    assert method.alive.tolist() == [False] * TARGET + [True] * (N - TARGET)


def test_greg_2_picks_when_all_have_grown():
    method = made("GReg-2")
    rising = torch.arange(1.0, N + 1)
    for _ in range(19):
        assert len(set(method.update(rising).tolist())) == 1
    assert method.update(rising.flip(0)).tolist() == pytest.approx([0] * (N - TARGET) + [0.2] * TARGET)
    for _ in range(20):
        method.update(rising)
    assert (method.done, method.updates) == (True, 40)
    assert method.alive.tolist() == [True] * (N - TARGET) + [False] * TARGET


def test_static_scores_go_when_the_oracle_says():
    method, times = IncReg(40, 0.6, 0.01, 0.37), []
    scores = torch.rand(40, generator=Generator().manual_seed(0))
    while not method.done:
        before = method.removed
        method.update(scores)
        times += [method.updates] * (method.removed - before)
    assert times == removal_times(40, 0.6, 0.01, 0.37).tolist()
    assert set((~method.alive).nonzero()[:, 0].tolist()) == set(scores.argsort()[:24].tolist())


def test_a_group_recovers_unless_it_may_not():
    found = {}
    for recovery in (True, False):
        method, path = IncReg(10, 0.3, 0.01, 0.5, recovery=recovery), []
        for now in range(60):
            path.append(method.update(torch.tensor([1.0 if now < 20 else 100.0, *range(2, 11)]))[0].item())
        assert not method.done
        found[recovery] = path
    assert max(found[True]) > 0.2
    assert found[True][-1] == 0
    assert found[False] == sorted(found[False])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneShot(8, 0.98), "ratio=0.98 removes all 8 groups of a layer; at least one must be left"),
        (lambda: OneShot(8, 0.0), r"ratio must be in \(0, 1\], got 0.0"),
        (lambda: GroupLasso(8, 0.5, -1.0, 10), r"weight must be in \[0, inf\), got -1.0"),
        (lambda: AFP(8, 0.5, 1.0, 0), "budget must be at least 1, got 0"),
        (lambda: GReg1(8, 0.5, 0.0, 1.0), r"step must be in \(0, inf\), got 0.0"),
        (lambda: GReg2(8, 0.5, 0.1, 1.0, 1.0), r"pick must be in \(0, ceiling=1.0\), got 1.0"),
        (lambda: IncReg(8, 0.5, 0.1, 1.0, 1.5), r"u must be in \(0, 1\), ends excluded, got 1.5"),
        (lambda: OneShot(8, 0.5).update(torch.ones(7)), r"scores must have shape \(8,\), got \(7,\)"),
        (lambda: OneShot(2, 0.5).update(torch.tensor([1.0, math.nan])), "scores must be finite: training has diverged"),
        (lambda: AFP(8, 0.5, 1.0, 3).update(torch.ones(8)), "AFP needs the norms of the groups"),
    ],
)  # fmt: skip
def test_what_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
