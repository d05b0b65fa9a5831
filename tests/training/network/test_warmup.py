"""The penalty's warm-up: weaker masks at first, the objective itself at last, the same numbers when resumed."""

import math
from dataclasses import replace

import pytest
import torch

from repro.data.images import Images, ImageSet
from repro.dropout import Bernoulli, CorrelatedGaussian, DropBlock
from repro.pipeline.system.threads import torch_threads
from repro.theory import dropblock_objective
from repro.training.network import Settings, measurement
from repro.training.network.loop import PENALTY_FLOOR, Task, _Loss, fabric_of, fit, warmed_up

TRAINING = Settings(
    kind="network", epochs=5, batch_size=16, learning_rate=0.05, momentum=0.9, warmup=0.2, clip_norm=1.0,
    loss="squared_error", mask_per="batch", masks_per_step=8, precision="float32", channels_last=True, compile=False,
    devices=1, processes=1,
)  # fmt: skip
WARMED = TRAINING.model_copy(update={"penalty_warmup": (0.25, 0.6)})
SAMPLED = WARMED.model_copy(update={"mask_per": "sample", "masks_per_step": 1})


class Perceptron(torch.nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.inner, self.head = torch.nn.Linear(36, 8), torch.nn.Linear(8, 3, bias=False)

    def features(self, images):
        return self.inner(images.flatten(1)).relu()


def task(training, **changes):
    labels = torch.arange(70) % 3
    pixels = (
        torch.randint(0, 100, (70, 1, 6, 6), generator=torch.Generator().manual_seed(0))
        + labels[:, None, None, None] * 60
    )
    some = ImageSet(pixels.to(torch.uint8), labels)
    images = Images(some, some, torch.eye(3), torch.tensor([100.0]), torch.tensor([50.0]))
    return Task(Perceptron, images, training, seed=5, masks=DropBlock(8, 2, 0.5), **changes)


def rows_of(work, advance=lambda images: None):
    def measure(epoch, network):
        return {"fit": measurement.data_fit(measurement.look(network, work.images, work.images.train))}

    with torch_threads(1):
        return fit(fabric_of(work.training, "cpu"), work, measure, advance)


def same(one, other):
    return all(
        a[k] == b[k] or (math.isnan(a[k]) and math.isnan(b[k])) for a, b in zip(one, other, strict=True) for k in a
    )


@pytest.mark.parametrize("masks", [Bernoulli(8, 0.1), DropBlock(8, 4, 0.1), CorrelatedGaussian(8, 0.1, 0.5)], ids=repr)
@pytest.mark.parametrize(
    ("done", "share"), [(0.0, PENALTY_FLOOR), (0.25, PENALTY_FLOOR), (0.425, 0.5), (0.6, 1.0), (0.9, 1.0)]
)
def test_the_odds_and_with_them_the_penalty_are_scaled(masks, done, share):
    found = warmed_up(masks, WARMED, done)
    odds = (1 - found.retain) / found.retain
    assert odds == pytest.approx(share * 9)
    torch.testing.assert_close(found.relative_covariance, share * masks.relative_covariance)


def test_from_the_end_of_the_warm_up_and_without_one_the_masks_are_the_ones_asked_for():
    masks = DropBlock(8, 2, 0.1)
    assert warmed_up(masks, WARMED, 0.6) is masks
    assert all(warmed_up(masks, TRAINING, done / 10) is masks for done in range(10))


@pytest.mark.parametrize("training", [WARMED, SAMPLED], ids=["batch", "sample"])
@pytest.mark.parametrize(("done", "share"), [(0.0, PENALTY_FLOOR), (0.6, 1.0)])
def test_the_loss_descended_has_the_objective_of_its_odds(training, done, share):
    work = task(training)
    network, loss = work.build(), None
    loss = _Loss(network, work.masks, training)
    loss.weaken(done)
    generator = torch.Generator().manual_seed(0)
    for module in loss.modules():
        module.generator = generator
    batch = work.images.train[torch.arange(32)]
    inputs, targets = work.images.normalized(batch.images), work.images.targets[batch.labels]
    with torch.no_grad():
        losses = torch.stack([loss(inputs, targets) for _ in range(400)]).double()
        features = network.features(inputs).double()
    theta = 1 / (1 + share)  # the odds are 1 at the end
    U, identity = network.head.weight.detach().double(), torch.eye(8, dtype=torch.float64)
    exact = float(dropblock_objective(U, identity, features.T, targets.double().T, 2, theta)) / 32
    assert abs(float(losses.mean()) - exact) < 4 * float(losses.std()) / 20
    other = float(dropblock_objective(U, identity, features.T, targets.double().T, 2, 0.8)) / 32
    assert abs(float(losses.mean()) - other) > 8 * float(losses.std()) / 20  # control: other odds


@pytest.mark.parametrize("training", [WARMED, SAMPLED], ids=["batch", "sample"])
def test_resumed_in_and_after_the_warm_up_the_numbers_are_the_same(training, tmp_path):
    whole = rows_of(task(training))
    assert same(whole, rows_of(task(training)))
    assert not same(whole, rows_of(replace(task(training), seed=6)))
    assert not same(whole, rows_of(task(training.model_copy(update={"penalty_warmup": None}))))
    for images in (100, 170, 300):  # in epochs 2, 3 and 5

        class Killed(Exception):
            pass

        done = 0

        def stop(count, images=images):
            nonlocal done
            done += count
            if done > images:
                raise Killed

        work = task(training, checkpoint=tmp_path / f"{images}.pt", code="this code")
        with pytest.raises(Killed):
            rows_of(work, stop)
        assert same(whole, rows_of(work))


@pytest.mark.parametrize("warmup", [(0.5, 0.5), (0.6, 0.2), (-0.1, 0.5), (0.2, 1.0)])
def test_a_warm_up_that_never_ends_is_refused(warmup):
    with pytest.raises(ValueError, match=r"must be \[hold, full\], 0 <= hold < full < 1"):
        type(TRAINING)(**(TRAINING.model_dump(exclude={"nodes"}) | {"penalty_warmup": warmup}))
