"""The deep loop's throughput beside the same network in a plain loop, and what last-layer dropout costs a step.

    python benchmarks/network_training.py

The plain loop is a DataLoader with workers over a torchvision-style dataset, float32, per-sample Dropout. On the CPU:
the narrow ResNet-8 of the cpu scale on mnist5k, one thread each. On CUDA: ResNet-56 on random bytes of CIFAR's shape.
"""

import time
from functools import partial
from math import inf
from statistics import median

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from repro.data.images import Images, ImageSet, load
from repro.data.mnist5k import Settings as Digits
from repro.dropout import DropBlock
from repro.models.resnet import Settings as ResNetSettings
from repro.models.resnet.build import ResNet
from repro.training.network import Settings as NetworkTraining
from repro.training.network.loop import Task, fabric_of, fit, moments, quadratic_loss
from support.timing import ratio, save, shown, summary

EPOCHS = 3  # of a measurement, of which the fastest counts: the first warms up
ROUNDS = 4
LOSSES = 200  # evaluations of a loss that are timed together


class Pictures(Dataset):
    """One normalised image at a time, as datasets give them."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images.train)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.images.train.images[row : row + 1]
        return self.images.normalized(image)[0], self.images.targets[self.images.train.labels[row]]


def plain(build: partial[ResNet], images: Images, batch: int, device: str, retain: float) -> float:
    """Images per second of the fastest epoch of an ordinary loop."""
    network = build().to(device)
    dropout = nn.Dropout(1 - retain)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    loader = DataLoader(
        Pictures(images), batch, shuffle=True, drop_last=True, num_workers=8 if device == "cuda" else 1,
        persistent_workers=True, pin_memory=device == "cuda",
    )  # fmt: skip
    fastest = inf
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for pictures, targets in loader:
            outputs = network.head(dropout(network.features(pictures.to(device))))
            loss = (targets.to(device) - outputs).square().sum() / batch
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()
        fastest = min(fastest, time.perf_counter() - start)
    return len(images.train) // batch * batch / fastest


def ours(task: Task, device: str) -> float:
    """Images per second of the fastest epoch of `repro.training.network.loop`, measurement left out."""
    spent: list[float] = []
    begun = 0.0

    def measure(epoch: int, network: nn.Module) -> dict[str, float]:
        nonlocal begun
        if device == "cuda":
            torch.cuda.synchronize()
        if epoch:
            spent.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        return {}

    fabric = fabric_of(task.training, device)
    fit(fabric, task, measure)
    batch = task.training.batch_size
    return len(task.images.train) // batch * batch / min(spent)


def dropout_seconds(task: Task, device: str) -> float:
    """What the loss under 64 masks takes longer, forward and backward, than the plain squared error: a step's cost."""
    batch, width = task.training.batch_size, 64
    features, weight = torch.randn(batch, width, device=device), torch.randn(10, width, device=device)
    targets = torch.eye(10, device=device)[torch.arange(batch, device=device) % 10]
    leaves = features.requires_grad_(), weight.requires_grad_()
    draws = moments(DropBlock(width, 4, 0.5), 64, torch.Generator(device).manual_seed(0), torch.float32)
    losses = (
        lambda: (targets - features @ weight.mT).square().sum(),
        lambda: quadratic_loss(weight, features, targets, *next(draws)),
    )
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(20):  # in turn, so that both meet the same machine
        for loss, times in zip(losses, spent, strict=True):
            start = time.perf_counter()
            for _ in range(LOSSES):
                torch.autograd.grad(loss(), leaves)
            if device == "cuda":
                torch.cuda.synchronize()
            times.append((time.perf_counter() - start) / LOSSES)
    bare, masked = map(median, spent)
    return masked - bare


def matrix_rate() -> float:
    """The GPU's bf16 matrix rate, FLOP/s, on 8192³."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - start)


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    if device == "cuda":
        generator = torch.Generator().manual_seed(0)
        train = ImageSet(
            torch.randint(0, 256, (20480, 3, 32, 32), generator=generator).to(torch.uint8), torch.arange(20480) % 10
        )
        images = Images(train, train, torch.eye(10), torch.full((3,), 128.0), torch.full((3,), 70.0))
        model = ResNetSettings(kind="resnet56", width=64, embedding=True, channels=16, width_factor=1.0, stem_stride=1)
        batch, shape = 512, (3, 32)
    else:
        print("no CUDA GPU here: only the CPU is measured")
        images = load(
            Digits(
                kind="mnist5k", root=None, download=False, subset=None, imbalance=1.0, targets="one_hot", held_out=0.2,
                crop_padding=0, flip=False, image_size=None, seed=0,
            )
        )  # fmt: skip
        model = ResNetSettings(kind="resnet8", width=64, embedding=True, channels=16, width_factor=0.5, stem_stride=2)
        batch, shape = 50, (1, 28)
    training = NetworkTraining(
        kind="network", epochs=EPOCHS, batch_size=batch, learning_rate=0.01, momentum=0.9, warmup=0.2, clip_norm=1.0,
        loss="squared_error", mask_per="batch", masks_per_step=64, precision="bf16" if device == "cuda" else "float32",
        channels_last=True, compile=device == "cuda", devices=1, processes=1,
    )  # fmt: skip
    build = partial(ResNet, model, shape[0], 10, 0)
    dropped = Task(build=build, images=images, training=training, seed=0, masks=DropBlock(64, 4, 0.5))
    work = {
        "plain loop, DataLoader, float32, Dropout": lambda: plain(build, images, batch, device, 0.5),
        "ours, DropBlock(4), 64 masks a step": lambda: ours(dropped, device),
    }
    rounds = [{name: measure() for name, measure in work.items()} for _ in range(ROUNDS)]
    rates = {name: [one[name] for one in rounds] for name in work}
    print(f"images per second, median [quartiles] of {ROUNDS} rounds")
    for name, found in rates.items():
        print(f"{name:<44}{shown(summary(found), 0):>24}")
    first, masked = rates.values()
    faster, rate = ratio(masked, first), summary(masked)["median"]
    share = dropout_seconds(dropped, device) * rate / batch
    print(f"ours is {shown(faster, 2)} × the plain loop; dropout costs {100 * share:.1f} % of a step")
    results = {"images_per_second": {name: summary(found) for name, found in rates.items()}, "dropouts_share": share}
    save("network_training", results, {f"network training, {device}: plain loop with a DataLoader": faster})
    if device == "cuda":
        with FlopCounterMode(display=False) as flops:
            build()(torch.randn(1, shape[0], shape[1], shape[1])).sum().backward()
        print(f"{100 * rate * flops.get_total_flops() / matrix_rate():.1f} % of the GPU's bf16 matrix rate")


if __name__ == "__main__":
    main()
