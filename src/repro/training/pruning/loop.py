"""The training loop: a network's steps, the penalties of its groups, and their removal.

Batches and augmentation are drawn from generators of the seed and the update, so that a checkpoint holds no generator;
what it holds is weights, momentum, λ, ranks, masks and what was measured so far.

Methods reckon on the CPU: while groups are to go, a step copies all scores there and all λ back, at once. Nothing else
waits for a GPU between two rows of the table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from repro.pruning import IncReg, Method
from repro.training import checkpoint
from repro.training.pruning import Settings
from repro.training.pruning.networks import Classifier, Data, Layer

Row = dict[str, float]


@dataclass(frozen=True)
class Stage:
    """What is trained on which batches, and how long.

    Attributes:
        name: of the stream that batches are drawn from.
        seed: likewise.
        updates: steps.
        rate: the step size, up to update number `hold`; from there it falls linearly to 0.
        hold: penalties end with it at the latest.
        probe: test images on which accuracy is measured before and after each removal; 0 for none.
        log: updates between two rows.
    """

    name: str
    seed: int
    updates: int
    rate: float
    hold: int = 0
    probe: int = 0
    log: int = 20

    def rate_at(self, update: int) -> float:
        return self.rate * min(1.0, (self.updates - update) / (self.updates - self.hold))


@dataclass
class Pruning:
    """A network in training, with one method a layer, and what has been measured.

    Attributes:
        removals: one a moment at which groups went: the update, how many, and what it cost on the probe: `accuracy` and
            `loss`, before less after.
        recovered: of each layer the groups whose λ was at least A once and 0 again before the target was reached (of
            IncReg).
        forced: groups that were removed because the penalties' time was over.
        losses: their sum since the last row, in float64.
        placed: λ and what is alive of each layer, on the training device.
    """

    network: Classifier
    layers: Mapping[str, Layer]
    methods: Mapping[str, Method]
    optimizer: torch.optim.SGD
    losses: Tensor
    update: int = 0
    rows: list[Row] = field(default_factory=list)
    removals: list[Row] = field(default_factory=list)
    grown: dict[str, Tensor] = field(default_factory=dict)
    recovered: dict[str, Tensor] = field(default_factory=dict)
    forced: int = 0
    placed: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    PLAIN = ("update", "rows", "removals", "grown", "recovered", "forced")

    @property
    def done(self) -> bool:
        return all(method.done for method in self.methods.values())

    @property
    def left(self) -> float:
        """The share of all groups that are there."""
        alive = [method.alive for method in self.methods.values()]
        return float(torch.cat(alive).double().mean()) if alive else 1.0

    def scores(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Σ|w| and ‖w‖ of the groups of each layer of which some are still to go, on the CPU."""
        names = [name for name, method in self.methods.items() if not method.done]
        parts = [part for name in names for part in (self.layers[name].scores(), self.layers[name].norms())]
        found = torch.cat(parts).cpu().split([len(part) for part in parts])
        return dict(zip(names, zip(found[::2], found[1::2], strict=True), strict=True))

    def place(self) -> None:
        """Takes λ and what is alive to the training device."""
        parts = [part for method in self.methods.values() for part in (method.penalties, method.alive.double())]
        if parts:
            found = torch.cat(parts).to(self.losses.device).split([len(part) for part in parts])
            pairs = zip(found[::2], (alive.bool() for alive in found[1::2]), strict=True)
            self.placed = dict(zip(self.methods, pairs, strict=True))

    def state(self) -> checkpoint.State:
        methods = {name: method.state_dict() for name, method in self.methods.items()}
        found = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "methods": methods}
        return found | {"losses": self.losses} | {name: getattr(self, name) for name in self.PLAIN}

    def load(self, state: checkpoint.State) -> None:
        self.network.load_state_dict(cast(dict[str, Tensor], state["network"]))
        self.optimizer.load_state_dict(cast(dict[str, object], state["optimizer"]))
        methods = cast(Mapping[str, dict[str, Tensor | int]], state["methods"])
        for name, method in self.methods.items():
            method.load_state_dict(methods[name])
        self.losses.copy_(cast(Tensor, state["losses"]))
        for name in self.PLAIN:
            setattr(self, name, state[name])


def begin(
    network: Classifier, training: Settings, layers: Mapping[str, Layer], methods: Mapping[str, Method]
) -> Pruning:
    optimizer = torch.optim.SGD(
        network.parameters(), lr=training.rate, momentum=training.momentum, weight_decay=training.weight_decay
    )
    losses = torch.zeros((), dtype=torch.float64, device=next(network.parameters()).device)
    return Pruning(network, layers, methods, optimizer, losses)


def fit(
    pruning: Pruning,
    data: Data,
    stage: Stage,
    training: Settings,
    *,
    path: Path | None = None,
    code: str = "",
    advance: Callable[[int], object] = lambda updates: None,
) -> None:
    """Trains `pruning` in place to the end of `stage`, from its checkpoint at `path` if there is one.

    A network whose loss is no longer finite is given up at the next row, which says so.
    """
    if path is not None and (state := checkpoint.load(path, code)) is not None:
        pruning.load(state)
        advance(pruning.update)
    network = pruning.network.train()
    pruning.place()
    start = pruning.update
    for update in range(start, stage.updates):
        images, labels = data.batch(stage.name, stage.seed, update, training.batch_size)
        if not pruning.done:
            _update_methods(pruning, data, stage)
        for group in pruning.optimizer.param_groups:
            group["lr"] = stage.rate_at(update)
        loss = cross_entropy(network(images), labels)
        pruning.optimizer.zero_grad()
        loss.backward()
        _add_penalties(pruning)
        pruning.optimizer.step()
        pruning.losses += loss.detach()
        pruning.update = update + 1
        advance(1)
        if pruning.update % stage.log == 0 or pruning.update == stage.updates:
            mean = float(pruning.losses) / (pruning.update - (pruning.rows[-1]["step"] if pruning.rows else 0))
            pruning.rows.append({"step": pruning.update, "train_loss": mean, "left": pruning.left})
            pruning.losses.zero_()
            if not isfinite(mean):
                break
        if path is not None and pruning.update % training.checkpoint == 0 and pruning.update < stage.updates:
            checkpoint.save(path, code, pruning.state())
    if path is not None and pruning.update > start:
        checkpoint.save(path, code, pruning.state())


def _update_methods(pruning: Pruning, data: Data, stage: Stage) -> None:
    """Scores, new λ, and the removal of groups whose time has come."""
    found = pruning.scores()
    if not all(part.isfinite().all() for parts in found.values() for part in parts):
        return  # as the loss will not be
    changed = []
    for name, (scores, norms) in found.items():
        method = pruning.methods[name]
        before = method.removed
        if pruning.update < stage.hold or stage.hold == 0:
            method.update(scores, norms)
        else:
            method.finish(scores)
            pruning.forced += method.removed - before
        if isinstance(method, IncReg):
            _follow(pruning, name, method)
        if method.removed > before:
            changed.append((name, method.removed - before))
    pruning.place()
    if not changed:
        return
    seen = _probe(pruning, data, stage)
    momentum = pruning.optimizer.state
    for name, _ in changed:
        for of in (lambda parameter: parameter, lambda parameter: momentum[parameter].get("momentum_buffer")):
            pruning.layers[name].silence_(pruning.placed[name][1], of)
    after = _probe(pruning, data, stage)
    cost = {key: seen[key] - after[key] for key in seen}
    pruning.removals.append({"step": pruning.update, "groups": sum(count for _, count in changed)} | cost)


def _follow(pruning: Pruning, name: str, method: IncReg) -> None:
    """Notes whose λ has grown by at least A, and whose is 0 again although groups are still to go."""
    penalties = method.penalties
    grown = pruning.grown.setdefault(name, torch.zeros_like(method.alive))
    recovered = pruning.recovered.setdefault(name, torch.zeros_like(method.alive))
    if not method.done:
        recovered |= grown & method.alive & (penalties == 0)
        grown |= penalties >= method.step


@torch.no_grad()
def _probe(pruning: Pruning, data: Data, stage: Stage) -> Row:
    """Accuracy and loss on the next of the test images, the same before and after a removal."""
    if not stage.probe:
        return {}
    test, count = data.images.test, min(stage.probe, len(data.images.test))
    rows = (len(pruning.removals) * count + torch.arange(count)) % len(test)
    chosen = test[rows.to(test.labels.device)]
    network = pruning.network.eval()
    logits = network(data.inputs(chosen.images))
    network.train()
    right = int((logits.argmax(1) == chosen.labels).sum())
    return {"accuracy": right / count, "loss": float(cross_entropy(logits, chosen.labels))}


def _add_penalties(pruning: Pruning) -> None:
    """λ_g w joins the gradient of the groups alive; that of the others is 0."""
    for name, method in pruning.methods.items():
        layer, (penalties, alive) = pruning.layers[name], pruning.placed[name]
        if not method.done:
            layer.penalize_(penalties)
        if method.removed:
            layer.silence_(alive, lambda parameter: parameter.grad)
