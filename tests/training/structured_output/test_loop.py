"""The batched loop against a plain one of one network, and what must be the plain network to the bit."""

from itertools import islice

import pytest
import torch

from repro.data.pairs import Part
from repro.models.structured_output import Settings as Model
from repro.models.structured_output.build import Networks
from repro.training.structured_output import Importance, Settings
from repro.training.structured_output.loop import Task, Terms, _batches, cost_of, predictions, train
from repro.training.sweep.noise import seeded_generator

INPUTS, OUTPUTS, STEPS, PAIRS = 12, 6, 24, 30


def draw(rows, seed):
    x = torch.rand(rows, INPUTS, generator=torch.Generator().manual_seed(seed))
    return Part(x, torch.tanh(x[:, :OUTPUTS] - x[:, OUTPUTS:]))


TABLE, VALIDATION = draw(60, 0), draw(20, 1)
CONSTANT = {"shape": "constant", "weight": 1.0, "begin": 0.0, "end": 1.0}


def settings(**changes):
    schedule = Importance(**CONSTANT)
    given = {
        "kind": "structured_output", "steps": STEPS, "epochs": None, "batch_size": 8, "optimizer": "sgd",
        "learning_rate": 0.05, "full_rate": 0.5, "momentum": 0.9, "supervised": schedule, "inputs": schedule,
        "outputs": schedule, "cost": "mean", "decay": 0.0, "move": "joint", "shuffle": True, "pretraining": 0.3,
        "checks": 4,
    }  # fmt: skip
    return Settings(**given | changes)


def networks(seeds, tied=True, corruption=0.2):
    model = Model(
        kind="structured_output", hidden=[8, 7, 5], activations=["sigmoid", "sigmoid", "tanh", "tanh"], input_layers=1,
        output_layers=1, corruption=corruption, tied=tied,
    )  # fmt: skip
    return Networks(model, INPUTS, OUTPUTS, seeds, lambda seed, what: seeded_generator(f"test {seed} {what}"), "cpu")


def tasks(seeds, weights):
    every = torch.arange(60)
    importance = torch.tensor(weights, dtype=torch.float64).expand(STEPS, 3)
    return [Task(f"{seed}", every[:PAIRS], every[:45], every[15:], importance) for seed in seeds]


def trained(weights, terms, seeds=(0, 1), tied=True, corruption=0.2, **changes):
    made = networks(seeds, tied, corruption)
    return train(made, tasks(seeds, weights), TABLE, VALIDATION, settings(**changes), Terms(*terms))


def same(one, other):
    pairs = zip(one.networks.parameters(), other.networks.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs) and torch.equal(one.validation, other.validation)


# ---------------------------------------------------------------------- the plain network, to the bit


@pytest.mark.parametrize(("optimizer", "move"), [("sgd", "joint"), ("sgd", "separate"), ("adam", "joint")])
def test_weights_of_zero_are_the_plain_network(optimizer, move):
    plain = trained((1, 0, 0), (False, False), optimizer=optimizer, move=move)
    zero = trained((1, 0, 0), (True, True), optimizer=optimizer, move=move)
    assert same(plain, zero)
    assert not same(plain, trained((1, 0.01, 0), (True, True), optimizer=optimizer, move=move))


@pytest.mark.parametrize("move", ["joint", "separate"])
def test_untied_auto_encoders_leave_the_plain_network(move):
    plain = trained((1, 0, 0), (False, False), move=move)
    assert same(plain, trained((1, 1, 1), (True, True), tied=False, move=move))
    for weights in ((1, 1, 0), (1, 0, 1)):  # tied, each of them reaches it
        assert not same(plain, trained(weights, (True, True), move=move))


# ---------------------------------------------------------------------- the loop


def plain_loop(seed, weights, cost, decay, move):
    """One network, a tensor a parameter, SGD with momentum by hand."""
    (W, *Ws), (b, *bs) = ([w[0].detach().clone() for w in some] for some in (networks((seed,)).weights,
                                                                            networks((seed,)).biases))  # fmt: skip
    c, e = torch.zeros(1, INPUTS), torch.zeros(1, 5)
    parameters = [t.requires_grad_() for t in (W, *Ws, b, *bs, c, e)]
    given = settings(cost=cost, decay=decay, move=move)
    task = tasks((seed,), weights)[0]
    orders = {name: _batches([getattr(task, name)], [f"{name} {task.stream}"], given) for name in
              ("pairs", "inputs", "outputs")}  # fmt: skip
    velocity = {name: [torch.zeros_like(p) for p in parameters] for name in ("joint", "inputs", "outputs")}
    rows = {name: list(islice(order, STEPS)) for name, order in orders.items()}

    def scaled(distance):
        return distance.square().sum(1).mean() if cost == "sum" else distance.square().mean()

    def of_inputs(x):
        return scaled(torch.sigmoid(torch.sigmoid(x @ W + b) @ W.mT + c) - x) + decay * W.square().sum()

    def of_outputs(y):
        code = torch.tanh(y @ Ws[-1].mT + e)
        return scaled(torch.tanh(code @ Ws[-1] + bs[-1]) - y) + decay * Ws[-1].square().sum()

    def step(loss, name, rate):
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for p, g, v in zip(parameters, gradients, velocity[name], strict=True):
                if g is not None:
                    v.mul_(0.9).add_(g)
                    p.sub_(rate * v)

    for n in range(STEPS):
        rate = 0.05 * (1 if n / STEPS <= 0.5 else 2 * (1 - n / STEPS))
        pairs, inputs, outputs = (rows[name][n][0] for name in ("pairs", "inputs", "outputs"))
        if move == "separate":
            step(weights[1] * of_inputs(TABLE.inputs[inputs]), "inputs", rate)
            step(weights[2] * of_outputs(TABLE.outputs[outputs]), "outputs", rate)
            inputs = outputs = pairs
        x, y = TABLE.inputs[pairs], TABLE.outputs[pairs]
        h = torch.sigmoid(torch.sigmoid(x @ W + b) @ Ws[0] + bs[0])
        found = torch.tanh(torch.tanh(h @ Ws[1] + bs[1]) @ Ws[2] + bs[2])
        loss = weights[0] * (found - y).square().mean()
        loss = loss + weights[1] * of_inputs(TABLE.inputs[inputs]) + weights[2] * of_outputs(TABLE.outputs[outputs])
        step(loss, "joint", rate)
    return [W, *Ws]


@pytest.mark.parametrize(("cost", "decay", "move"), [("mean", 0.0, "joint"), ("sum", 1e-2, "separate")])
def test_a_plain_loop_gives_the_same_networks(cost, decay, move):
    weights = (1.0, 0.3, 0.5)
    found = trained(weights, (True, True), corruption=0.0, cost=cost, decay=decay, move=move, checks=1)
    for i, seed in enumerate((0, 1)):
        for mine, theirs in zip(found.networks.weights, plain_loop(seed, weights, cost, decay, move), strict=True):
            torch.testing.assert_close(mine[i], theirs, rtol=1e-4, atol=1e-6)


def test_networks_of_a_batch_do_not_know_each_other():
    together = trained((1, 1, 1), (True, True))
    for i, seed in enumerate((0, 1)):
        alone = trained((1, 1, 1), (True, True), seeds=(seed,))
        for one, other in zip(together.networks.parameters(), alone.networks.parameters(), strict=True):
            torch.testing.assert_close(one[i], other[0], rtol=1e-5, atol=1e-6)
    assert same(together, trained((1, 1, 1), (True, True)))


def test_the_networks_are_those_of_the_least_validation_error():
    found = trained((1, 0, 0), (False, False), learning_rate=1.5, checks=12, full_rate=1.0)
    least = found.validation.min(0).values
    torch.testing.assert_close(cost_of(found.networks, VALIDATION), least, rtol=1e-6, atol=0)
    assert (found.validation[-1] > least).any()  # else it says nothing
    again = (predictions(found.networks, VALIDATION.inputs) - VALIDATION.outputs).square().mean((1, 2))
    torch.testing.assert_close(again.double(), least, rtol=1e-5, atol=0)


def test_a_network_that_diverges_is_told_and_harms_no_other():
    made = networks((0, 1))
    with torch.no_grad():
        made.weights[0][0] = torch.nan
    found = train(made, tasks((0, 1), (1, 1, 1)), TABLE, VALIDATION, settings(), Terms(True, True))
    assert found.validation[:, 0].isnan().all()
    assert found.validation[:, 1].isfinite().all()


def test_every_row_comes_once_a_pass():
    rows = torch.arange(100, 120)
    seen = torch.stack(list(islice(_batches([rows], ["key"], settings(batch_size=5)), 8)))[:, 0]
    for one in seen.view(2, 20):
        assert one.sort().values.tolist() == rows.tolist()
    assert not torch.equal(seen[:4], seen[4:])
    in_order = torch.stack(list(islice(_batches([rows], ["key"], settings(batch_size=5, shuffle=False)), 8)))[:, 0]
    assert in_order.flatten().tolist() == rows.tolist() * 2


# ---------------------------------------------------------------------- settings


def test_how_long():
    assert settings().length(1000) == STEPS
    assert settings(steps=None, epochs=3).length(25) == 3 * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, r"training.steps: training.steps=24 and training.epochs=3: one of them"),
        ({"steps": None}, r"training.steps=null and training.epochs=null: one of them"),
        ({"move": "separate", "optimizer": "adam"}, r"training.move=separate: Adam's step does not see"),
        ({"inputs": CONSTANT | {"begin": 1.0}}, r"begin=1.0: must be below end=1.0"),
        ({"inputs": CONSTANT | {"weight": -1.0}}, "greater than or equal to 0"),
        ({"pretraining": 1.0}, r"must lie in \(0, 1\)"),
    ],
)
def test_mistakes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_what_has_no_effect_is_told():
    assert settings().ignored() == {
        f"training.{name}.{key}": "a schedule that is constant has none"
        for name in ("supervised", "inputs", "outputs")
        for key in ("begin", "end")
    }
    abrupt = Importance(shape="abrupt", weight=1.0, begin=0.0, end=0.5)
    found = settings(inputs=abrupt, optimizer="adam").ignored()
    assert "training.inputs.begin" in found
    assert "training.inputs.end" not in found
    assert found["training.momentum"] == "Adam has its own"
