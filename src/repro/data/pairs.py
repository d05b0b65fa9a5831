"""Inputs with structured outputs: some in pairs, of others the input alone, of others the output alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from repro.data.settings import PairSettings
from repro.pipeline.settings import bound, implementation
from repro.pipeline.system.errors import UserError


class Read(NamedTuple):
    """What a source's `load` returns; the first three will do.

    Attributes:
        inputs: in [0, 1], a row an instance.
        outputs: a row an instance: pixels in [0, 1], or points x₁ y₁ x₂ y₂ …, each (coordinate / box) − 0.5.
        shape: height and width of an input's picture.
        test: which instances are tested on; None where the source does not say.
        report: what was read of the user's files, for the record.
    """

    inputs: Float[Tensor, "N d"]
    outputs: Float[Tensor, "N m"]
    shape: tuple[int, int]
    test: Bool[Tensor, " N"] | None = None
    report: Mapping[str, object] = {}


class Part(NamedTuple):
    """Instances, float32, a row each."""

    inputs: Float[Tensor, "N d"]
    outputs: Float[Tensor, "N m"]

    def to(self, device: torch.device | str) -> "Part":
        return Part(self.inputs.to(device), self.outputs.to(device))


@dataclass(frozen=True)
class Choice:
    """Rows of a training set: `pairs`, and of two disjoint halves of the others the inputs alone and the outputs
    alone, so that no instance is known by both."""

    pairs: Int[Tensor, " n"]
    inputs: Int[Tensor, " i"]
    outputs: Int[Tensor, " o"]


@dataclass(frozen=True)
class Pairs:
    """Three sets without a common instance.

    Attributes:
        train: of which a network sees a `Choice`.
        validation: what chooses the epoch, and the settings of baselines.
        test: what only the reported errors see.
        shape: height and width of an input's picture.
        report: what was read of the user's files.
    """

    train: Part
    validation: Part
    test: Part
    shape: tuple[int, int]
    report: Mapping[str, object] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> "Pairs":
        train, validation, test = (part.to(device) for part in (self.train, self.validation, self.test))
        return Pairs(train, validation, test, self.shape, self.report)

    def choose(self, pairs: int, generator: Generator) -> Choice:
        """`pairs` rows at random, and of the others a half each."""
        order = torch.randperm(len(self.train.inputs), generator=generator)
        rest = order[pairs:]
        return Choice(order[:pairs], rest[: len(rest) // 2], rest[len(rest) // 2 :])


def load(settings: PairSettings) -> Pairs:
    """The data that `settings` describe, split by instance.

    Raises:
        UserError: files that are not there or cannot be read, numbers that are not finite, or too few instances; of a
            user's module no `load`, or one that returns something else.
    """
    found = bound(implementation(settings, "load"), settings)()
    if not isinstance(found, tuple) or not 3 <= len(found) <= 5:
        raise UserError(f"data.kind={settings.kind}: its load must return inputs, outputs and the pictures' shape")
    read = Read(*found)
    inputs, outputs = torch.as_tensor(read.inputs).float(), torch.as_tensor(read.outputs).float()
    if inputs.ndim != 2 or outputs.ndim != 2 or len(inputs) != len(outputs):
        got = f"{tuple(inputs.shape)} and {tuple(outputs.shape)}"
        raise UserError(f"data.kind={settings.kind}: inputs and outputs must be as many rows, got {got}")
    for name, values in (("inputs", inputs), ("outputs", outputs)):
        if not values.isfinite().all():
            raise UserError(f"data: the {name} have values that are not finite")
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(inputs), generator=generator)
    if read.test is None:
        held = round(settings.held_out * len(order))
        test, rest = order[:held], order[held:]
    else:
        test, rest = order[read.test[order]], order[~read.test[order]]
    held = max(1, round(settings.validation * len(rest)))
    sets = {"train": rest[held:], "validation": rest[:held], "test": test}
    if short := next((name for name, rows in sets.items() if len(rows) == 0), None):
        raise UserError(f"data: {len(inputs)} instances leave none for the {short} set")
    parts = {name: Part(inputs[rows], outputs[rows]) for name, rows in sets.items()}
    return Pairs(**parts, shape=read.shape, report=read.report)
