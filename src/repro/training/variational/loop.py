"""Adam on −log p(y | x, W)/n + KL/n, networks of one shape side by side; predictions by draws."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from repro.models.variational.build import Network
from repro.models.variational.layers import Sampling, VariationalLinear
from repro.theory.checks import without_looking
from repro.training.variational import Settings

MEANS = ("weight", "bias")
Loss = Callable[[Tensor, Tensor], Tensor]
"""(copies, N, outputs) and targets (copies, N, …) → −log p, (copies, N)."""


def train(
    network: Network,
    inputs: Float[Tensor, "copies N features"],
    targets: Tensor,
    loss: Loss,
    settings: Settings,
    batches: Generator,
    noise: Generator,
    measure: Callable[[int], None] = lambda step: None,
    extra: tuple[Tensor, ...] = (),
) -> Bool[Tensor, " copies"]:
    """Trains in place; says which copies diverged: of a loss, a divergence or a gradient that is not finite
    nothing is learned, and the copy is marked for good.

    Args:
        network: of so many copies.
        inputs: of each copy's own training set, on the device of the network and of `noise`.
        targets: (copies, N) classes or (copies, N, outputs) numbers.
        loss: −log p of each example.
        settings: how.
        batches: draws the examples of each step, every copy its own; on the CPU.
        noise: draws what the layers draw.
        measure: called at `log_steps`.
        extra: parameters of the loss.
    """
    network.draw_from(noise)
    network.noisy(True)
    means = [p for name, p in network.named_parameters() if name.endswith(MEANS)]
    others = [p for name, p in network.named_parameters() if not name.endswith(MEANS) and p.requires_grad]
    rates = [settings.learning_rate, settings.noise_learning_rate]
    groups = zip(([*means, *extra], others), rates, strict=True)
    adam = torch.optim.Adam([{"params": group, "lr": rate} for group, rate in groups], fused=True)
    parameters = [*means, *extra, *others]
    copies, count = inputs.shape[:2]
    diverged = torch.zeros(copies, dtype=torch.bool, device=inputs.device)
    points, order = set(log_steps(settings)), examples(count, copies, settings.batch_size, batches, inputs.device)
    warm = max(1, round(settings.kl_warmup * settings.steps))
    which = torch.arange(copies, device=inputs.device)[:, None]
    for step in range(settings.steps + 1):
        if step in points:
            measure(step)
        if step == settings.steps:
            break
        rows = next(order)
        for group, rate in zip(adam.param_groups, rates, strict=True):  # constant, then down to nothing
            group["lr"] = rate * min(1.0, 2 * (1 - step / settings.steps))
        fit = loss(network(inputs[which, rows]), targets[which, rows]).mean(-1)
        with without_looking():
            divergence = network.kl()
        total = fit + min(1.0, (step + 1) / warm) * divergence / count
        bad = ~total.detach().isfinite()
        diverged |= bad
        adam.zero_grad()
        torch.where(bad, 0, total).sum().backward()
        for parameter in parameters:
            if (gradient := parameter.grad) is not None:
                diverged |= ~gradient.flatten(1).sum(1).isfinite() if gradient.ndim > 1 else ~gradient.isfinite()
                gradient.nan_to_num_(0, 0, 0)
        adam.step()
        for parameter in parameters:  # one that has left float32 stays, and the loss of its copy is not finite
            parameter.data.nan_to_num_(0)
    return diverged


def log_steps(settings: Settings) -> list[int]:
    """Evenly spaced, from 0 to the last."""
    return sorted({round(settings.steps * i / (settings.log_points - 1)) for i in range(settings.log_points)})


def examples(
    count: int, copies: int, size: int, generator: Generator, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Rows of a batch for each copy, (copies, size), every example once a pass; drawn on the CPU."""
    size = min(size, count)
    while True:
        orders = torch.stack([torch.randperm(count, generator=generator) for _ in range(copies)]).to(device)
        for start in range(0, count - size + 1, size):
            yield orders[:, start : start + size]


@torch.no_grad()
def draws(
    network: Network,
    inputs: Float[Tensor, "copies N features"],
    count: int,
    generator: Generator,
    sampling: Sampling = "weights",
) -> Float[Tensor, "count copies N outputs"]:
    """What `count` draws of the posterior predict; with `weights` one W for all rows where a layer can."""
    network.draw_from(generator)
    network.noisy(True)
    layers = [layer for layer in network.layers() if isinstance(layer, VariationalLinear)]
    before: list[Sampling] = [layer.sampling for layer in layers]
    for layer in layers:
        layer.sampling = sampling
    found = torch.stack([network(inputs) for _ in range(count)])
    for layer, own in zip(layers, before, strict=True):
        layer.sampling = own
    return found


@torch.no_grad()
def negative_elbo(
    network: Network, inputs: Tensor, targets: Tensor, loss: Loss, count: int, generator: Generator
) -> Float[Tensor, " copies"]:
    """−ELBO per example, nats: the mean of −log p over draws of every row, each from its own W, plus KL/n.

    Rows that are drawn apart say as much in a third of `count` draws as ones that share their W do in all.
    """
    drawn = draws(network, inputs, -(-count // 3), generator, "local")
    return torch.stack([loss(one, targets).mean(-1) for one in drawn]).mean(0) + network.kl() / inputs.shape[1]
