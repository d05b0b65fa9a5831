"""Trains the networks of one method as one batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from repro.data.images import Images
from repro.training.adaptive import Settings
from repro.training.adaptive.methods import EtaTrick, Plain
from repro.training.adaptive.network import Stack, error, loss, outputs
from repro.training.sweep.noise import seeded_generator

Row = dict[str, Tensor]


@dataclass(frozen=True)
class Digits:
    """Images as rows of float32, standardised, on the training device."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    @classmethod
    def of(cls, images: Images, device: str) -> "Digits":
        def flat(pixels: Tensor) -> Tensor:
            return images.normalized(pixels).flatten(1).contiguous().to(device)

        return cls(
            flat(images.train.images),
            images.train.labels.to(device),
            flat(images.test.images),
            images.test.labels.to(device),
        )


def train(
    method: Plain,
    seeds: Sequence[int],
    data: Digits,
    training: Settings,
    *,
    key: str,
    epochs: int,
    rate: float,
    log_rate: float = 0.0,
    advance: Callable[[int], object] = lambda steps: None,
) -> list[Row]:
    """Rows of what `measured` finds of every network, before the first and after every epoch.

    Networks of one seed see one order of the data; masks are drawn from a generator of `key` and the epoch.
    """
    body, logs = [*method.weights, *method.biases], method.logs
    for tensor in (*body, *logs):
        tensor.requires_grad_()
    peaks = {"body": rate, "logs": log_rate}
    groups = [{"params": body, "name": "body"}, {"params": logs, "name": "logs"}]
    adam = torch.optim.Adam([group for group in groups if group["params"]], fused=True)
    device, layers = data.train.device, len(method.weights)
    steps = len(data.train) // training.batch_size  # an epoch; the rest of the permutation sits it out
    streams = sorted(set(seeds))
    places = torch.tensor([streams.index(seed) for seed in seeds], device=device)
    rows = [measured(method, data, training.zero)]
    for epoch in range(epochs):
        orders = torch.stack([order(len(data.train), seed, epoch) for seed in streams]).to(device)
        method.generator = seeded_generator(f"adaptive {key} {epoch}", device)
        for step in range(steps):
            done = epoch * steps + step
            left = 1 - done / (epochs * steps)
            for group in adam.param_groups:
                group["lr"] = peaks[group["name"]] * left
            batch = orders[:, step * training.batch_size : (step + 1) * training.batch_size][places]
            adam.zero_grad()
            loss(outputs(method.layer, layers, data.train[batch]), data.train_labels[batch]).backward()
            with torch.no_grad():
                method.add_gradient()
                adam.step()
                method.after(partial(_second_moment, adam, done + 1), rate * left)
        rows.append(measured(method, data, training.zero))
        advance(steps * len(seeds))
    for tensor in (*body, *logs):
        tensor.requires_grad_(False)
    return rows


def _second_moment(adam: torch.optim.Adam, step: int, parameter: Tensor) -> Tensor:
    found: Tensor = adam.state[parameter]["exp_avg_sq"]
    return found / (1 - adam.defaults["betas"][1] ** step)


def order(count: int, seed: int, epoch: int) -> Tensor:
    """The order in which all networks of a seed see the images of an epoch."""
    return torch.randperm(count, generator=seeded_generator(f"order {seed} {epoch}"))


@torch.no_grad()
def measured(method: Plain, data: Digits, zero: float) -> Row:
    """Of each network: `left`, the share of weights whose retain probability is not below `zero`; `pruned_error`, the
    test error with the others set to 0; `error`, that of the weights as they are; `penalty`, of the η-trick. NaN where
    weights are not finite."""
    layers, count = len(method.weights), len(method.weights[0])
    kept = [method.retain(number) >= zero for number in range(layers)]
    share = torch.cat([mask.flatten(1) for mask in kept], 1).double().mean(1)
    pruned = [w * mask for w, mask in zip(method.weights, kept, strict=True)]

    def error_of(weights: list[Tensor]) -> Tensor:
        return error(Stack(weights, method.biases).layer, layers, count, data.test, data.test_labels)

    as_trained = error_of(method.weights)
    row = {
        "left": share,
        "error": as_trained,
        "pruned_error": as_trained if all(mask.all() for mask in kept) else error_of(pruned),
    }
    if isinstance(method, EtaTrick):
        row["penalty"] = method.penalty()
    broken = ~torch.cat([w.flatten(1) for w in method.weights], 1).isfinite().all(1)
    return {name: column.masked_fill(broken, torch.nan) for name, column in row.items()}
