"""The measurement from d×d moments against the same numbers from the features themselves."""

import pytest
import torch

from repro.data.images import Images, ImageSet
from repro.dropout import DropBlock
from repro.dropout.layers import FeatureDropout
from repro.models.normalization import synchronized
from repro.models.resnet import Settings
from repro.models.resnet.build import ResNet
from repro.theory import dropblock_objective, spectral_k_support_norm
from repro.training.network import measurement
from repro.training.sweep.noise import Cell, Problem, noise_of


@pytest.fixture(scope="module", params=[False, True], ids=["no bias", "bias"])
def seen_and_features(request):
    """What is seen, the features G, the targets Y less the head's bias b, and b."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(1203) % 3  # more than two of the measurement's batches, and a rest
    data = ImageSet(torch.randint(0, 256, (1203, 1, 8, 8), generator=generator).to(torch.uint8), labels)
    images = Images(data, data, torch.eye(3), torch.tensor([128.0]), torch.tensor([70.0]))
    settings = dict(kind="resnet8", width=12, embedding=True, channels=8, width_factor=1.0, stem_stride=2)
    network, bias = ResNet(Settings(**settings, head_bias=request.param), 1, 3, 0), torch.zeros(3)
    with torch.no_grad():
        network.head.weight.mul_(30)
        if request.param:
            bias = network.head.bias.copy_(torch.tensor([0.3, -0.2, 0.5])).detach()
        network.embedding.weight.mul_(10)
    network.eval()
    with torch.no_grad():
        features = network.features(images.normalized(data.images)).double()
    network.train()
    seen = measurement.look(network, images, data)
    assert network.training
    return seen, features.T, (images.targets[labels] - bias).double().T, bias.double()


def test_moments_spectrum_and_fit(seen_and_features):
    seen, G, Y, b = seen_and_features
    U = seen.head
    assert torch.allclose(seen.problem.gram, G @ G.T, rtol=1e-5)
    assert torch.allclose(measurement.singular_values(seen), torch.linalg.svdvals(U @ G), rtol=1e-5)
    assert measurement.data_fit(seen) == pytest.approx(float((Y - U @ G).square().sum()), rel=1e-6)
    right = (U @ G + b[:, None]).argmax(0) == (Y + b[:, None]).argmax(0)
    assert seen.accuracy == pytest.approx(float(right.double().mean()), abs=1e-3)


@pytest.mark.parametrize("block_size", [1, 3, 4])
def test_the_deep_objective_is_a_linear_networks_with_V_the_identity(seen_and_features, block_size):
    seen, G, Y, _ = seen_and_features
    cell = Cell(DropBlock(12, block_size, 0.4), 0)
    identity = torch.eye(12, dtype=torch.float64)
    found = noise_of(seen.problem, [cell]).objective(seen.head[None], identity[None])
    expected = dropblock_objective(seen.head, identity, G, Y, block_size, 0.4)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    norms = [float((seen.head[:, i : i + block_size] @ G[i : i + block_size]).norm()) for i in range(0, 12, block_size)]
    assert measurement.block_norms(seen, block_size).tolist() == pytest.approx(norms, rel=1e-5)
    balance = measurement.balance(seen, block_size)
    lower = block_size / 12 * float(spectral_k_support_norm(seen.head @ G, min(block_size, 3))) ** 2
    assert balance["tightness"] == pytest.approx(lower / sum(n**2 for n in norms), rel=1e-5)
    assert 0 < balance["tightness"] < 1


def test_the_bound_is_attained_by_equal_orthogonal_blocks():
    """Where u_i and g_i are aligned with the singular vectors and balanced, tightness is 1 and imbalance 0."""
    U = torch.eye(4, dtype=torch.float64)[:, [0, 1, 2, 3, 0, 1, 2, 3]]
    G = U.T @ torch.linalg.qr(torch.randn(9, 4, dtype=torch.float64))[0].T
    seen = measurement.Seen(Problem(G @ G.T, U @ G @ G.T, 1.0), U, 1.0)
    balance = measurement.balance(seen, 1)
    assert balance["tightness"] == pytest.approx(1)
    assert balance["imbalance"] == pytest.approx(0, abs=1e-12)
    assert balance["effective_rank"] == pytest.approx(4)
    assert measurement.balance(seen._replace(head=U * torch.arange(1, 9)), 1)["tightness"] < 0.9


def test_a_block_size_that_does_not_divide_the_width_is_refused(seen_and_features):
    with pytest.raises(ValueError, match="block_size must divide the width 12, got 5"):
        measurement.block_norms(seen_and_features[0], 5)


# ---------------------------------------------------------------------- batch normalisation, masks


def images_and_network(count=130, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    labels = (torch.arange(count) * 3) // count  # class after class, as files often are
    data = ImageSet(torch.randint(0, 256, (count, 1, 8, 8), generator=generator).to(torch.uint8) // (1 + labels)
                    [:, None, None, None].to(torch.uint8), labels)  # fmt: skip
    images = Images(data, data, torch.eye(3), torch.tensor([100.0]), torch.tensor([70.0]))
    settings = Settings(kind="resnet8", width=12, embedding=True, channels=8, width_factor=1.0, stem_stride=2)
    return images, ResNet(settings, 1, 3, 0)


def statistics(network):
    return [buffer.clone() for buffer in network.buffers()]


def test_exact_statistics_give_the_features_of_one_batch_of_all_images():
    images, network = images_and_network()
    inputs = images.normalized(images.train.images)
    network.eval()
    before, running = statistics(network), network.features(inputs)
    with measurement.exact_statistics(network, images, images.train):
        assert not network.training
        found = network.features(inputs)
    assert all(torch.equal(*pair) for pair in zip(before, statistics(network), strict=True))
    network.train()
    expected = network.features(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (running - expected).norm() > 0.1 * expected.norm()  # control: the running ones


def test_a_large_set_is_interleaved_so_that_every_part_has_all_classes(monkeypatch):
    images, network = images_and_network()
    network.eval()
    with measurement.exact_statistics(network, images, images.train):
        whole = statistics(network)
    monkeypatch.setattr(measurement, "WHOLE", 50)
    with measurement.exact_statistics(network, images, images.train):
        parts = statistics(network)
    first = slice(0, 2)  # mean and variance behind the stem, which sees the images themselves
    for found, expected in zip(parts[first], whole[first], strict=True):
        torch.testing.assert_close(found, expected, rtol=0.1, atol=0.05)


def test_statistics_come_back_when_measuring_fails_and_need_no_process_group():
    images, network = images_and_network()
    network = synchronized(network, 2, "cpu")
    before = statistics(network.train())
    with pytest.raises(RuntimeError, match="the disk"), measurement.exact_statistics(network, images, images.train):
        raise RuntimeError("the disk")
    assert network.training
    assert all(torch.equal(*pair) for pair in zip(before, statistics(network), strict=True))


def test_masks_in_the_forward_pass_cost_what_the_formula_says():
    images, network = images_and_network()
    network.eval()
    with torch.no_grad():
        network.head.weight.mul_(40)
        G = network.features(images.normalized(images.train.images)).double().T
    dropout = FeatureDropout(DropBlock(12, 3, 0.4))
    dropout.generator = torch.Generator().manual_seed(0)
    losses = measurement.losses_through_masks(network, images, images.train, dropout, 800)
    U, Y = network.head.weight.detach().double(), images.targets[images.train.labels].double().T
    identity = torch.eye(12, dtype=torch.float64)
    mean, error = float(losses.mean()), float(losses.std()) / 800**0.5
    assert abs(mean - float(dropblock_objective(U, identity, G, Y, 3, 0.4))) < 3 * error
    for size, retain in ((1, 0.4), (3, 0.5)):  # controls
        assert abs(mean - float(dropblock_objective(U, identity, G, Y, size, retain))) > 6 * error
