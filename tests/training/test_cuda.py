"""Training on a GPU, pretended: nothing mixes devices, and no step of training makes the CPU wait for it."""

from collections import Counter

import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from pretended import GPU, on_gpu, pretended
from torch import Tensor

from repro.data.images import load as load_images
from repro.pipeline.execution.making import compute
from repro.pipeline.settings import implementation, load
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.pruning import IncReg
from repro.training.pruning.loop import Stage, begin, fit
from repro.training.pruning.networks import Classifier, Data, Layer
from repro.training.sweep.noise import HiddenNoise

LINEAR = ["seed=0", "model.width=4", "training.log_points=2", "options.monte_carlo_masks=64", "dropout.retain=0.5"]
DIGITS = ["seed=0", "data=mnist5k", "data.subset=80"]
NETWORK = [*DIGITS, "training.batch_size=40", "options.monte_carlo_masks=64", "training.masks_per_step=2"]
PRUNED = [
    *DIGITS,
    "training.batch_size=8",
    "options.ratios=[0.9]",
    "options.floor=null",
    "options.probe=1",
    "options.controls=[]",
    "options.gentleness=[1.0]",
]
SMALL = ["training.batch_size=4", "model.channels=[8,8]", "model.hidden=8"]
# Of each engine: what is run, and by which key it takes twice as many steps.
RUNS = {
    "rank_collapse": ([*LINEAR[:3], "dropout.p=0.5", "dropout.block_size=[1,2]"], "training.steps=4"),
    "any_dropout": ([*LINEAR, "dropout.block_size=2"], "training.steps=4"),
    "dropconnect": (LINEAR, "training.steps=4"),
    "deep_linear_regularizer": (
        [*LINEAR[:3], "model.depth=[2]", "dropout.retain=0.8", "options.random_networks=1"],
        "training.steps=4",
    ),
    "last_layer_dropout": ([*NETWORK, "dropout.retain=0.5", "options.measurements=1"], "data.subset=80"),
    "dropblock_approximation": (NETWORK[:-2], "data.subset=80"),
    "adaptive_sparsification": (
        [*DIGITS, "model.hidden=[8,8]", "training.epochs=1", "training.batch_size=8"],
        "data.subset=80",
    ),
    "incremental_pruning": ([*PRUNED, "training.epochs=1", "training.pruning=2"], "training.updates=24"),
    "structured_output_digits": (
        ["seed=0", "model.hidden=[6,5,4]", "options.pairs=[20]", "training.checks=1", "training.batch_size=8"],
        "training.steps=4",
    ),
    "variational_classification": (
        [
            *DIGITS,
            "model.hidden=[6]",
            "options.reflections=[1]",
            "options.halves=false",
            "training.log_points=2",
            "training.batch_size=4",
            "training.samples=1",
            "options.drop_rates=[0.1]",
        ],
        "training.steps=4",
    ),
}


# Those whose numbers a GPU makes of the same draws in another order, and what rounding may make of them.
SAME = {"rank_collapse": 1e-4, "dropconnect": 1e-4, "structured_output_digits": 1e-4, "adaptive_sparsification": 1e-3}


class _Cpu(CPUAccelerator):
    def setup_device(self, device):
        pass


def _fabric(training, device):
    return Fabric(strategy=SingleDeviceStrategy(GPU, _Cpu()), precision="32-true")


def waits(experiment, overrides, tmp_path, monkeypatch) -> Counter:
    """What the CPU waits for in a whole run."""
    monkeypatch.setattr("repro.papers.structured_dropout.networks.fabric_of", _fabric)
    given = [f"experiment={experiment}", "scale=smoke", "device=cuda", f"results={tmp_path}", "tracking.mode=disabled"]
    config = load([*given, *overrides], elsewhere=True)
    with pretended() as gpu:
        compute(config, Progress("", quiet=True))
    return gpu.waits


def twice(experiment, tmp_path, monkeypatch) -> Counter:
    """What is waited for in a run of twice as many steps, and is not in one of half of them."""
    overrides, steps = RUNS[experiment]
    key, _, count = steps.partition("=")
    few = waits(experiment, [*overrides, steps], tmp_path / "few", monkeypatch)
    many = waits(experiment, [*overrides, f"{key}={2 * int(count)}"], tmp_path / "many", monkeypatch)
    assert few.total() > 0
    return many - few


@pytest.mark.parametrize("experiment", RUNS)
def test_no_step_waits(experiment, tmp_path, monkeypatch):
    assert twice(experiment, tmp_path, monkeypatch) == Counter()


@pytest.mark.parametrize("experiment", SAME)
def test_it_computes_what_a_cpu_does(experiment, tmp_path):
    """The pretended GPU draws what a CPU draws: what differs would be other work."""
    overrides, steps = RUNS[experiment]
    given = [f"experiment={experiment}", "scale=smoke", f"results={tmp_path}", "tracking.mode=disabled", "threads=1"]
    found = compute(load([*given, *overrides, steps, "device=cpu"]), Progress("", quiet=True))
    config = load([*given, *overrides, steps, "device=cuda"], elsewhere=True)
    with pretended():
        there = compute(config, Progress("", quiet=True))
    pd.testing.assert_frame_equal(there.cells, found.cells, rtol=SAME[experiment], atol=SAME[experiment])


@pytest.mark.parametrize("wait", [lambda t: t.sum().item(), lambda t: t.cpu(), lambda t: bool((t > 0).any())])
def test_one_that_does_is_found(wait, tmp_path, monkeypatch):
    plain = HiddenNoise.sampled_gradient

    def waiting(self, U, V):
        wait(U)
        return plain(self, U, V)

    monkeypatch.setattr(HiddenNoise, "sampled_gradient", waiting)
    assert twice("rank_collapse", tmp_path, monkeypatch).total() >= 4


def test_what_mixes_devices_is_found(tmp_path, monkeypatch):
    plain = HiddenNoise.sampled_gradient
    monkeypatch.setattr(HiddenNoise, "sampled_gradient", lambda self, U, V: plain(self, U, V + torch.zeros(V.shape)))
    with pytest.raises(RuntimeError, match="same device"):
        twice("rank_collapse", tmp_path, monkeypatch)


MODELS = ("resnet8", "resnet20", "resnet56", "resnet18", "resnet50", "lenet5", "convnet")


@pytest.mark.parametrize("name", MODELS)
def test_every_network_takes_a_step(name):
    experiment = "incremental_pruning" if name in MODELS[-2:] else "last_layer_dropout"
    config = load([f"experiment={experiment}", f"model={name}", "scale=smoke"]).model
    size = {"size": (28, 28)} if name == "convnet" else {}
    network = Classifier(implementation(config, "build")(config, 1, 10, 0, **size))
    with pretended() as gpu:
        network.to("cuda")
        adam = torch.optim.Adam(network.parameters(), fused=True)
        gpu.waits.clear()
        loss = network(torch.rand(2, 1, 28, 28, device="cuda")).square().sum()
        loss.backward()
        adam.step()
        assert on_gpu(loss)
        assert not gpu.waits


def test_growing_penalties_cross_once_a_step():
    settings = load(["experiment=incremental_pruning", "scale=smoke", "seed=0", "data.subset=40", *SMALL])
    images = load_images(settings.data)

    def crossings(updates: int) -> Counter:
        network = Classifier(implementation(settings.model, "build")(settings.model, 1, 10, 0))
        with pretended() as gpu:
            data = Data.of(images, settings.data, settings.training, "cuda")
            network.to("cuda")
            layers = {name: Layer(network, name, "filter", ()) for name in ("network.conv1", "network.conv2")}
            methods = {name: IncReg(len(layer), 0.5, 1e-4, 100.0) for name, layer in layers.items()}
            pruning = begin(network, settings.training, layers, methods)
            fit(pruning, data, Stage("pruning", 0, updates, 0.01, log=updates), settings.training)
        assert not any(method.removed for method in methods.values())
        return gpu.waits

    few = crossings(3)
    more = crossings(6) - few
    assert sorted((where.partition(",")[0], count) for where, count in more.items()) == [
        ("copy to the CPU", 3),
        ("copy to the GPU", 3),
    ]


@pytest.mark.parametrize("experiment", ["adaptive_regression", "structured_posterior"])
def test_what_computes_on_the_cpu_alone_says_so(experiment, monkeypatch):
    given = [f"experiment={experiment}", "scale=smoke"]
    with pytest.raises(UserError, match=f"^device=cuda: {experiment} computes on the CPU alone; allowed: auto, cpu$"):
        load([*given, "device=cuda"], elsewhere=True)
    monkeypatch.setattr("repro.pipeline.composition.conf.cuda_is_usable", lambda: True)
    assert load(given).device == "cpu"
    assert load(["experiment=rank_collapse", "scale=smoke"]).device == "cuda"


def test_the_pretended_gpu_refuses_what_a_real_one_would():
    with pretended() as gpu:
        there, here, generator = torch.rand(3, 3, device="cuda"), torch.rand(3, 3), torch.Generator("cuda")
        refused: list[tuple[type[Exception], object]] = [
            (RuntimeError, lambda: there @ here),
            (RuntimeError, lambda: torch.stack([there, here])),
            (RuntimeError, lambda: here.add_(there)),
            (RuntimeError, lambda: torch.zeros(()).add_(there.sum())),
            (RuntimeError, lambda: torch.rand(2, generator=generator)),
            (RuntimeError, lambda: torch.rand(2, generator=torch.Generator(), device="cuda")),
            (RuntimeError, lambda: there.normal_(generator=torch.Generator())),
            (TypeError, lambda: there.numpy()),
        ]
        for error, call in refused:
            with pytest.raises(error):
                call()
        assert str((there + 1).mean().device) == "cuda:0"
        assert str(torch.zeros_like(there, device="cpu").device) == str(there.cpu().device) == "cpu"
        gpu.waits.clear()
        waiting = [
            *(lambda: there[here > 0.5], lambda: there[[0, 1]], lambda: there.tolist(), lambda: float(there[0, 0])),
            *(
                lambda: there.nonzero(),
                lambda: there.cpu(),
                lambda: here.to("cuda"),
                lambda: torch.linalg.cholesky(there @ there.mT + torch.eye(3, device="cuda")),
            ),
        ]
        for number, call in enumerate(waiting, 1):
            call()
            assert gpu.waits.total() >= number
        gpu.waits.clear()
        weights = torch.rand(3, 3, device="cuda", requires_grad=True)
        (weights @ there).relu().sum().backward()
        assert isinstance(weights.grad, Tensor)
        assert on_gpu(weights.grad)
        assert not gpu.waits
