"""Networks and their auto-encoders against torch's own layers, tied by the same tensors."""

import pytest
import torch
from torch.nn.functional import linear

from repro.models.structured_output import Settings
from repro.models.structured_output.build import Networks
from repro.training.sweep.noise import seeded_generator


def settings(**changes):
    return Settings(
        **{"kind": "structured_output", "hidden": [9, 7, 5], "activations": ["sigmoid", "relu", "tanh", "linear"],
           "input_layers": 1, "output_layers": 1, "corruption": 0.2, "tied": True} | changes
    )  # fmt: skip


def made(seeds=(0, 1), **changes):
    networks = Networks(settings(**changes), 11, 6, seeds, lambda seed, what: seeded_generator(f"{seed} {what}"), "cpu")
    with torch.no_grad():
        for number, tensor in enumerate([*networks.biases, *networks.back_inputs, *networks.back_outputs]):
            tensor += 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(number))
    return networks


X = torch.rand(2, 8, 11, generator=torch.Generator().manual_seed(8))
Y = torch.rand(2, 8, 6, generator=torch.Generator().manual_seed(9))


def test_a_network_is_layers_one_after_another():
    networks = made()
    for i in range(2):
        weights = [(w[i].mT, b[i, 0]) for w, b in zip(networks.weights, networks.biases, strict=True)]
        first, second, third, last = weights
        h = torch.tanh(linear(torch.relu(linear(torch.sigmoid(linear(X[i], *first)), *second)), *third))
        torch.testing.assert_close(networks.predict(X)[i], linear(h, *last))


def test_auto_encoders_go_back_by_the_transposes():
    networks = made()
    for i in range(2):
        W, b, back = networks.weights[0][i], networks.biases[0][i], networks.back_inputs[0][i]
        code = torch.sigmoid(X[i] @ W + b)
        torch.testing.assert_close(networks.reconstruct_inputs(X)[i], torch.sigmoid(code @ W.mT + back))
        W, b, back = networks.weights[-1][i], networks.biases[-1][i], networks.back_outputs[0][i]
        code = torch.tanh(Y[i] @ W.mT + back)  # the activation of the hidden layer that the last layer starts from
        torch.testing.assert_close(networks.reconstruct_outputs(Y)[i], code @ W + b)


def test_deeper_auto_encoders():
    networks = made(hidden=[9, 8, 7, 5], activations=["sigmoid", "relu", "tanh", "sigmoid", "linear"], input_layers=2,
                    output_layers=2)  # fmt: skip
    (W1, W2), (b1, b2), (c1, c2) = networks.weights[:2], networks.biases[:2], networks.back_inputs
    code = torch.relu(torch.sigmoid(X @ W1 + b1) @ W2 + b2)
    back = torch.sigmoid(torch.sigmoid(code @ W2.mT + c2) @ W1.mT + c1)
    torch.testing.assert_close(networks.reconstruct_inputs(X), back)
    (W4, W5), (b4, b5), (c3, c4) = networks.weights[-2:], networks.biases[-2:], networks.back_outputs
    code = torch.tanh(torch.sigmoid(Y @ W5.mT + c4) @ W4.mT + c3)
    torch.testing.assert_close(networks.reconstruct_outputs(Y), torch.sigmoid(code @ W4 + b4) @ W5 + b5)


def test_tied_are_the_same_tensors_untied_none():
    tied, untied = made(), made(tied=False)
    assert tied.output_weights[0] is tied.weights[-1]
    assert tied.input_biases[0] is tied.biases[0]
    own = {id(tensor) for tensor in untied.parameters()}
    assert not own & {id(tensor) for tensor in (*untied.input_parameters(), *untied.output_parameters())}
    untied.reconstruct_outputs(Y).sum().backward()
    assert all(tensor.grad is None for tensor in untied.parameters())
    tied.reconstruct_outputs(Y).sum().backward()
    assert [tensor.grad is not None for tensor in tied.weights] == [False, False, False, True]
    assert torch.equal(tied.output_weights[0], untied.output_weights[0])  # they begin alike


def test_networks_of_one_seed_begin_alike():
    networks = Networks(settings(), 11, 6, (4, 4, 5), lambda seed, what: seeded_generator(f"{seed} {what}"), "cpu")
    for weights in networks.weights:
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])
        reach = (6 / sum(weights.shape[1:])) ** 0.5
        assert 0.9 * reach < float(weights.abs().max()) <= reach


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": [9]}, "at least 2"),
        ({"activations": ["tanh"] * 3}, r"model.activations: must be 4, one a layer .* got 3"),
        (
            {"input_layers": 2, "output_layers": 2},
            r"model.output_layers=2: with model.input_layers=2 must leave a layer",
        ),
        ({"corruption": 1.0}, r"must lie in \[0, 1\)"),
        ({"activations": ["tanh", "tanh", "tanh", "softmax"]}, "sigmoid"),
    ],
)
def test_mistakes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)
