"""The deep loop: its loss, its resumption after a kill, and several processes against one."""

import hashlib
import io
import math
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from repro.data.images import Images, ImageSet
from repro.dropout import DropBlock
from repro.dropout.layers import DropBlock2d
from repro.models.resnet import Settings as ResNetSettings
from repro.models.resnet.build import ResNet
from repro.pipeline.system.threads import torch_threads
from repro.training.network import Settings, loop, measurement
from repro.training.network.loop import Task, fabric_of, fit, order_of, quadratic_loss, schedule
from repro.training.sweep.noise import Cell, noise_of

TRAINING = Settings(
    kind="network", epochs=3, batch_size=16, learning_rate=0.05, momentum=0.9, warmup=0.2, clip_norm=1.0,
    loss="squared_error",
    mask_per="batch", masks_per_step=8, precision="float32", channels_last=True, compile=False, devices=1,
    processes=1,
)  # fmt: skip
PER_SAMPLE = TRAINING.model_copy(update={"mask_per": "sample", "masks_per_step": 1})
MODEL = ResNetSettings(kind="resnet8", width=8, embedding=True, channels=8, width_factor=1.0, stem_stride=2)


def squares_on_the_last_two_stages(stage):
    return DropBlock2d(3, 0.7) if stage in (-2, -1) else torch.nn.Identity()


def task(training=TRAINING, maps=False, **changes):
    generator = torch.Generator().manual_seed(0)

    def some(count):
        labels = torch.arange(count) % 3
        images = torch.randint(0, 100, (count, 1, 12, 12), generator=generator).to(torch.uint8)
        return ImageSet(images + (labels * 60).to(torch.uint8)[:, None, None, None], labels)

    images = Images(some(70), some(20), torch.eye(3), torch.tensor([100.0]), torch.tensor([50.0]))
    dropout = squares_on_the_last_two_stages if maps else None
    return Task(
        build=partial(ResNet, MODEL, 1, 3, 0, dropout), images=images, training=training, seed=5,
        masks=DropBlock(8, 2, 0.5), crop_padding=1, flip=True, **changes,
    )  # fmt: skip


class Measurement:
    """The objective's expectation and mean over 64 masks, and the spectrum of the last time."""

    def __init__(self, work, device):
        self.work, self.images, self.singular_values = work, work.images.to(device), None

    def __call__(self, epoch, network):
        seen = measurement.look(network, self.images, self.images.train)
        energy, cell = seen.problem.energy, Cell(self.work.masks, self.work.seed)
        if not math.isfinite(energy + measurement.data_fit(seen)):
            return {"deterministic": math.nan}
        self.singular_values = measurement.singular_values(seen).cpu().numpy()
        noise, U = noise_of(seen.problem, [cell]), seen.head[None]
        V = torch.eye(U.shape[-1]).to(U)[None]  # a deep network is U I g(X)
        drawn = noise.sampled_objective(U, V, [cell.generator(f"measurement {epoch}", U.device)], 64)
        return {"deterministic": float(noise.objective(U, V)) / energy, "monte_carlo": float(drawn.mean()) / energy}


def nowhere(images):
    pass


def both(fabric, work, advance):
    measure = Measurement(work, str(fabric.device))
    return fit(fabric, work, measure, advance), measure.singular_values


def train(work, advance=nowhere, device="cpu"):
    """The rows of a network, and its final spectrum."""
    with torch_threads(1):
        # A partial because `launch` walks through arguments and rebuilds the dataclasses among them.
        return fabric_of(work.training, device).launch(partial(both, work=work, advance=advance))


def rows_of(*arguments, **options):
    return train(*arguments, **options)[0]


def same(one, other):
    return all(a.keys() == b.keys() and all(a[k] == b[k] or (math.isnan(a[k]) and math.isnan(b[k])) for k in a)
               for a, b in zip(one, other, strict=True))  # fmt: skip


def test_quadratic_loss_is_the_mean_over_the_masks():
    generator = torch.Generator().manual_seed(0)
    U, G, Y = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((3, 8), (20, 8), (20, 3)))
    masks = DropBlock(8, 2, 0.5).sample_normalized(16, generator, torch.float64)
    expected = torch.stack([(Y - G * z @ U.mT).square().sum() for z in masks]).mean()
    found = quadratic_loss(U, G, Y, masks.mean(0), masks.mT @ masks / 16)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)
    assert float(quadratic_loss(U, G, Y, masks.mean(0), torch.ones(8, 8))) != pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("training", [TRAINING, PER_SAMPLE])
def test_a_bias_of_the_head_is_out_of_dropouts_reach(training, monkeypatch):
    network = ResNet(MODEL.model_copy(update={"head_bias": True}), 1, 3, 0)
    torch.nn.init.constant_(network.head.bias, 0.4)
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(12, 1, 12, 12, generator=generator), torch.eye(3)[torch.arange(12) % 3]
    masked = loop._Loss(network, DropBlock(8, 8, 0.5), training)  # all units of a sample, or none
    masked.generator = masked.dropout.generator = generator
    U, G, b = network.head.weight, network.features(inputs), network.head.bias
    if training.mask_per == "sample":
        monkeypatch.setattr(masked.dropout, "masks", DropBlock(8, 8, 1 - 1e-12))
    else:
        monkeypatch.setattr(masked, "_draw", lambda like: (torch.ones(8), torch.ones(8, 8)))
    expected = (targets - G @ U.mT - b).square().sum() / 12
    assert masked(inputs, targets).item() == pytest.approx(expected.item(), rel=1e-4)
    expected.backward()
    assert network.head.bias.grad.abs().max() > 0.01


def test_schedule():
    steps = 100
    factors = [schedule(step / steps, 0.2, 1 / steps) for step in range(steps)]
    assert factors[0] == pytest.approx(0.05, abs=0.001)
    assert max(factors) == pytest.approx(factors[19], abs=0.02)
    assert factors[-1] < 0.001
    assert factors[:19] == sorted(factors[:19])
    assert factors[20:] == sorted(factors[20:], reverse=True)


def test_the_order_is_fixed_by_seed_and_epoch():
    assert torch.equal(order_of(50, 1, 2), order_of(50, 1, 2))
    assert not torch.equal(order_of(50, 1, 2), order_of(50, 1, 3))
    assert not torch.equal(order_of(50, 1, 2), order_of(50, 2, 2))
    assert torch.equal(order_of(50, 1, 2).sort().values, torch.arange(50))


def test_training_learns_and_repeats_itself_bitwise():
    first = rows_of(task())
    assert [row["epoch"] for row in first] == [0, 1, 2, 3]
    assert first[-1]["deterministic"] < 0.9 * first[0]["deterministic"]
    assert same(first, rows_of(task()))
    assert not same(first, rows_of(replace(task(), seed=6)))


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_per_sample_masks_train_too(loss):
    rows = rows_of(task(PER_SAMPLE.model_copy(update={"loss": loss}), maps=True))
    assert rows[3]["train_loss"] < rows[1]["train_loss"]


@pytest.mark.parametrize("maps", [False, True])
def test_resumed_from_any_epoch_the_numbers_are_those_of_an_uninterrupted_run(tmp_path, maps):
    training = PER_SAMPLE if maps else TRAINING
    whole, spectrum = train(task(training, maps))
    for images in (40, 100, 150):  # the middle of epochs 1, 2 and 3

        class Killed(Exception):
            pass

        done = 0

        def stop(count, images=images):
            nonlocal done
            done += count
            if done > images:
                raise Killed

        work = task(training, maps, checkpoint=tmp_path / f"{images}.pt", code="this code")
        fabric = fabric_of(training, "cpu")
        with pytest.raises(Killed), torch_threads(1):
            fit(fabric, work, Measurement(work, "cpu"), stop)
        resumed, resumed_spectrum = train(work)
        assert same(whole, resumed)
        assert (spectrum == resumed_spectrum).all()


def test_sigkill_in_the_middle_of_an_epoch(tmp_path):
    script = f"""
import os, signal, sys, importlib.util
spec = importlib.util.spec_from_file_location("killed", {__file__!r}); killed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(killed)
done = 0
def kill(images):
    global done
    done += images
    if done > 80:
        os.kill(os.getpid(), signal.SIGKILL)
from pathlib import Path
work = killed.task(checkpoint=Path({str(tmp_path / "0.pt")!r}), code="this code")
killed.train(work, kill)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    work = task(checkpoint=tmp_path / "0.pt", code="this code")
    assert torch.load(work.checkpoint, weights_only=True)["epoch"] == 1
    assert same(rows_of(task()), rows_of(work))


def test_a_checkpoint_of_other_code_is_not_resumed(tmp_path):
    path = tmp_path / "0.pt"
    train(task(checkpoint=path, code="old"))
    changed = task(TRAINING.model_copy(update={"learning_rate": 0.01}), checkpoint=path, code="new")
    assert same(rows_of(changed), rows_of(replace(changed, checkpoint=None)))
    assert not list(tmp_path.glob("*.tmp*"))


def interrupted(path, images):
    """Trains with a checkpoint at `path` until so many images have passed."""

    class Killed(Exception):
        pass

    done = 0

    def stop(count):
        nonlocal done
        done += count
        if done > images:
            raise Killed

    work = task(checkpoint=path, code="this code")
    with pytest.raises(Killed), torch_threads(1):
        fit(fabric_of(TRAINING, "cpu"), work, Measurement(work, "cpu"), stop)
    return work


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty"])
@pytest.mark.parametrize(("hurt", "goes_on_at"), [([".pt"], 1), ([".pt", ".previous"], 0), ([".previous"], 2)])
def test_a_damaged_checkpoint_is_named_and_the_last_good_one_taken(tmp_path, capsys, how, hurt, goes_on_at):
    work = interrupted(tmp_path / "0.pt", 140)  # in the third epoch
    for suffix in hurt:
        path = tmp_path / f"0{suffix}"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes({"truncated": content[:-7], "flipped": content, "empty": b""}[how])
    images = []
    resumed = rows_of(work, images.append)
    assert sum(images) == (3 - goes_on_at) * 64
    assert same(resumed, rows_of(task()))
    said = [f"warning: damaged checkpoint {tmp_path / '0'}{suffix} is ignored" for suffix in hurt if goes_on_at < 2]
    assert capsys.readouterr().err.splitlines() == said


def test_a_kill_between_the_two_renames_loses_no_epoch(tmp_path):
    work = interrupted(tmp_path / "0.pt", 140)
    (tmp_path / "0.pt").replace(tmp_path / "0.previous")
    images = []
    resumed = rows_of(work, images.append)
    assert sum(images) == 64
    assert same(resumed, rows_of(task()))


def test_nothing_is_unpickled_from_a_checkpoint(tmp_path, capsys):
    class Harm:
        def __reduce__(self):
            return print, ("harm done",)

    content = io.BytesIO()
    torch.save({"code": Harm()}, content)
    (tmp_path / "0.pt").write_bytes(content.getvalue() + hashlib.sha256(content.getvalue()).digest())
    with pytest.raises(pickle.UnpicklingError):
        train(task(checkpoint=tmp_path / "0.pt"))
    assert "harm" not in capsys.readouterr().out
    content.seek(0)
    torch.load(content, weights_only=False)  # the control
    assert "harm" in capsys.readouterr().out


def test_a_network_that_diverges_is_given_up(tmp_path):
    """Its rows end with the epoch in which its loss ceased to be finite, also when it is resumed."""
    wild = TRAINING.model_copy(update={"learning_rate": 1e30, "clip_norm": None, "epochs": 5})
    images = []
    work = task(wild, checkpoint=tmp_path / "0.pt", code="this code")
    found = rows_of(work, images.append)
    assert sum(images) == 64
    assert [row["epoch"] for row in found] == [0, 1]
    assert math.isnan(found[-1]["deterministic"])
    assert same(rows_of(work, images.append), found)
    assert sum(images) == 64


def test_a_batch_larger_than_the_training_set_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at most 70, the training images, got 128"):
        train(task(TRAINING.model_copy(update={"batch_size": 128})))


@pytest.mark.parametrize(("training", "maps"), [(TRAINING, False), (PER_SAMPLE, True)], ids=["batch", "sample"])
def test_two_processes_follow_one(training, maps):
    one = rows_of(task(training, maps))
    two = rows_of(task(training.model_copy(update={"devices": 2}), maps))
    for a, b in zip(one[1:], two[1:], strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=2e-5)
        assert b["deterministic"] == pytest.approx(a["deterministic"], rel=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here: training on CUDA is not tested")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_on_cuda(precision):
    work = task(TRAINING.model_copy(update={"precision": precision}))
    rows = rows_of(work, device="cuda")
    assert rows[-1]["deterministic"] < rows[0]["deterministic"]
    cpu = rows_of(task())
    assert rows[1]["train_loss"] == pytest.approx(cpu[1]["train_loss"], rel=0.1)


class Perceptron(torch.nn.Module):
    """A network of the user's own: nothing but `features` and `head`."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.inner, self.head = torch.nn.Linear(144, 8), torch.nn.Linear(8, 3, bias=False)

    def features(self, images):
        return self.inner(images.flatten(1)).relu()


def test_any_network_with_features_and_a_head_trains():
    rows = rows_of(replace(task(), build=Perceptron))
    assert rows[-1]["deterministic"] < 0.9 * rows[0]["deterministic"]
