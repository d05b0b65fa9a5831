"""Descent on λ_sup C_s + λ_in C_in + λ_out C_out, of several networks of one shape as one batch.

C_s is the squared error of the outputs, a mean over rows and dimensions; C_in and C_out are those of the
auto-encoders, a mean over their own rows, so that more rows do not weigh more.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repro.data.pairs import Part
from repro.models.structured_output.build import Networks
from repro.training.structured_output import Settings
from repro.training.sweep.noise import seeded_generator

AHEAD = 64  # steps whose batches are drawn at a time
CHUNK = 1000  # rows that are evaluated at a time


@dataclass(frozen=True)
class Task:
    """What one network learns from.

    Attributes:
        stream: names its random numbers; tasks of one stream see the same pairs in the same order.
        pairs: rows of the tables that it knows input and output of.
        inputs, outputs: rows of which its auto-encoders learn, pairs among them.
        importance: λ_sup, λ_in, λ_out at every step.
    """

    stream: str
    pairs: Int[Tensor, " n"]
    inputs: Int[Tensor, " i"]
    outputs: Int[Tensor, " o"]
    importance: Float[Tensor, "steps 3"]


@dataclass(frozen=True)
class Terms:
    """Which auto-encoders there are: what is left out costs nothing."""

    inputs: bool
    outputs: bool


@dataclass(frozen=True)
class Trained:
    """The networks where their validation error was least, and what was measured on the way, a value a network.

    Attributes:
        checked: the steps at which was measured.
        validation: the validation error C_s, (checks, networks), NaN of a network that diverged.
        importance: λ of that step, (checks, networks, 3).
    """

    networks: Networks
    checked: list[int]
    validation: Float[Tensor, "checks networks"]
    importance: Float[Tensor, "checks networks 3"]


def train(
    networks: Networks,
    tasks: Sequence[Task],
    table: Part,
    validation: Part,
    settings: Settings,
    terms: Terms,
    advance: Callable[[], object] = lambda: None,
) -> Trained:
    """Trains a network a task on rows of `table`."""
    device = table.inputs.device
    importance = torch.stack([task.importance for task in tasks], 1).to(device, torch.float32)  # (steps, networks, 3)
    steps = len(importance)
    costs = Costs(networks, settings, tasks, device)
    orders = {
        name: _batches(
            [getattr(task, name) for task in tasks], [f"{name} {task.stream}" for task in tasks], settings, device
        )
        for name, there in (("pairs", True), ("inputs", terms.inputs), ("outputs", terms.outputs))
        if there
    }
    parameters = networks.parameters()
    if terms.inputs:
        parameters += networks.input_parameters()
    if terms.outputs:
        parameters += networks.output_parameters()
    descend = _optimizer(parameters, settings)
    alone: dict[str, tuple[Callable[[Tensor], Tensor], torch.optim.Optimizer]] = {}
    if settings.move == "separate":
        if terms.inputs:
            alone["inputs"] = (costs.inputs, _optimizer(networks.input_parameters(), settings))
        if terms.outputs:
            alone["outputs"] = (costs.outputs, _optimizer(networks.output_parameters(), settings))
    checked = sorted({round((i + 1) * steps / settings.checks) for i in range(settings.checks)} - {0})
    found, best = [], _Best(networks)
    movers = [descend, *(move for _, move in alone.values())]
    for step in range(steps):
        weights = importance[step].unbind(-1)
        for mover in movers:
            _set_rate(mover, settings, step / steps)
        rows = {name: next(order) for name, order in orders.items()}
        known = rows["pairs"]
        for number, name in enumerate(("inputs", "outputs"), 1):
            if name in alone:
                cost, move = alone[name]
                _step(move, (weights[number] * cost(getattr(table, name)[rows[name]])).sum())
                rows[name] = known
        x, y = table.inputs[known], table.outputs[known]
        loss = weights[0] * (networks.predict(x) - y).square().mean((1, 2))
        if terms.inputs:
            loss = loss + weights[1] * costs.inputs(x if rows["inputs"] is known else table.inputs[rows["inputs"]])
        if terms.outputs:
            loss = loss + weights[2] * costs.outputs(y if rows["outputs"] is known else table.outputs[rows["outputs"]])
        _step(descend, loss.sum())
        if step + 1 in checked:
            error = cost_of(networks, validation)
            best.keep(error)
            found.append(error)
        advance()
    best.restore()
    at = torch.tensor([step - 1 for step in checked])
    return Trained(networks, checked, torch.stack(found).cpu(), importance.cpu()[at])


class Costs:
    """C_in and C_out of every network."""

    def __init__(
        self, networks: Networks, settings: Settings, tasks: Sequence[Task], device: torch.device | str
    ) -> None:
        self.networks, self.settings = networks, settings
        streams = list(dict.fromkeys(task.stream for task in tasks))
        self._generators = [seeded_generator(f"masking noise {stream}", device) for stream in streams]
        self._of = torch.tensor([streams.index(task.stream) for task in tasks], device=device)

    def inputs(self, x: Float[Tensor, "networks rows inputs"]) -> Float[Tensor, " networks"]:
        """Of the input's auto-encoder, which sees x through masking noise."""
        seen = x
        if share := self.networks.settings.corruption:
            draws = [torch.rand(x.shape[1:], generator=g, device=x.device) for g in self._generators]
            seen = x * (torch.stack(draws) >= share)[self._of]
        return self._cost(self.networks.reconstruct_inputs(seen) - x, self.networks.input_weights)

    def outputs(self, y: Float[Tensor, "networks rows outputs"]) -> Float[Tensor, " networks"]:
        return self._cost(self.networks.reconstruct_outputs(y) - y, self.networks.output_weights)

    def _cost(self, distance: Tensor, weights: Sequence[Tensor]) -> Tensor:
        square = distance.square().mean(1)
        cost = square.sum(1) if self.settings.cost == "sum" else square.mean(1)
        if self.settings.decay:
            cost = cost + self.settings.decay * torch.stack([w.square().sum((1, 2)) for w in weights]).sum(0)
        return cost


def cost_of(networks: Networks, part: Part) -> Float[Tensor, " networks"]:
    """C_s of every network on `part`, float64."""
    total = torch.zeros(len(networks), dtype=torch.float64, device=part.inputs.device)
    for x, y in zip(part.inputs.split(CHUNK), part.outputs.split(CHUNK), strict=True):
        total += (predictions(networks, x) - y).square_().sum((1, 2), dtype=torch.float64)
    return total / part.outputs.numel()


@torch.no_grad()
def predictions(networks: Networks, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "networks rows outputs"]:
    return networks.predict(x.expand(len(networks), -1, -1))


class _Best:
    """The networks at their least validation error."""

    def __init__(self, networks: Networks) -> None:
        self._tensors = networks.parameters()
        self._kept = [tensor.detach().clone() for tensor in self._tensors]
        self._error = torch.full((len(networks),), torch.inf, dtype=torch.float64, device=self._kept[0].device)

    @torch.no_grad()
    def keep(self, error: Tensor) -> None:
        better = error < self._error
        self._error = torch.where(better, error, self._error)
        for kept, tensor in zip(self._kept, self._tensors, strict=True):
            kept.copy_(torch.where(better[:, None, None], tensor, kept))

    @torch.no_grad()
    def restore(self) -> None:
        for kept, tensor in zip(self._kept, self._tensors, strict=True):
            tensor.copy_(kept)


def _set_rate(optimizer: torch.optim.Optimizer, settings: Settings, progress: float) -> None:
    """Constant, then straight down to 0."""
    left = 1.0 if progress <= settings.full_rate else (1 - progress) / (1 - settings.full_rate)
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * left


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Gradients of networks do not mix: the loss is a sum over them."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _optimizer(parameters: Sequence[Tensor], settings: Settings) -> torch.optim.Optimizer:
    every = list({id(tensor): tensor for tensor in parameters}.values())  # tied tensors once
    if settings.optimizer == "adam":
        return torch.optim.Adam(every, lr=settings.learning_rate, fused=True)
    return torch.optim.SGD(every, lr=settings.learning_rate, momentum=settings.momentum, fused=True)


def _batches(
    rows: Sequence[Tensor], keys: Sequence[str], settings: Settings, device: torch.device | str = "cpu"
) -> Iterator[Int[Tensor, "networks batch"]]:
    """Rows of one step after another, each network's own, in passes over all of them."""
    streams = [_passes(some, seeded_generator(key), settings) for some, key in zip(rows, keys, strict=True)]
    while True:
        yield from torch.stack([next(stream) for stream in streams], 1).to(device)


def _passes(rows: Tensor, generator: torch.Generator, settings: Settings) -> Iterator[Int[Tensor, "ahead batch"]]:
    size = AHEAD * settings.batch_size
    left = rows[:0]
    while True:
        while len(left) < size:
            order = torch.randperm(len(rows), generator=generator) if settings.shuffle else torch.arange(len(rows))
            left = torch.cat([left, rows[order]])
        yield left[:size].view(AHEAD, -1)
        left = left[size:]
