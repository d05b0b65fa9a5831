"""Every arm and control at every number of pairs; those of equal cost train as one batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repro.data.pairs import Choice, Pairs, Part
from repro.models.structured_output.build import Networks
from repro.papers.structured_output.settings import CONTROLS, PRETRAINED, Config
from repro.theory import importance
from repro.training.structured_output.loop import Task, Terms, Trained, train
from repro.training.sweep.noise import seeded_generator

Choices = Mapping[tuple[int, int], Choice]
"""By number of pairs and seed."""


@dataclass(frozen=True)
class Job:
    """Networks that train as one batch: `arms`, each with what is known alone or without it, for every seed."""

    pairs: int
    terms: Terms
    arms: tuple[tuple[str, bool], ...]
    tied: bool = True

    def rows(self, seeds: Sequence[int]) -> list[tuple[str, bool, int]]:
        """Arm, whether with what is known alone, and seed of each network."""
        return [(arm, extra, seed) for arm, extra in self.arms for seed in seeds]


def jobs(numbers: Sequence[int], there: int, controls: bool) -> list[Job]:
    """The most expensive first, so that none is left alone at the end."""
    found = []
    for pairs in numbers:
        also = (False, True) if pairs < there - 1 else (False,)
        checked = controls and pairs == numbers[0]
        alone = {name: (((name, True),) if checked and len(also) > 1 else ()) for name in CONTROLS}
        found += [
            Job(pairs, Terms(True, True), (*(("in+out", extra) for extra in also), (PRETRAINED, also[-1]))),
            Job(pairs, Terms(True, False), (*(("in", extra) for extra in also), *alone["noise"])),
            Job(pairs, Terms(False, True), (*(("out", extra) for extra in also), *alone["shuffled"])),
            Job(pairs, Terms(False, False), (("plain", False),)),
        ]
        if checked:  # as many networks as there are plain ones, so that sums are rounded alike
            found += [
                Job(pairs, Terms(True, True), (("zero", also[-1]),)),
                Job(pairs, Terms(False, True), (("untied", also[-1]),), tied=False),
            ]
    return sorted(found, key=lambda job: -len(job.arms) * (1 + 3 * job.terms.inputs + job.terms.outputs))


def trained(job: Job, config: Config, data: Pairs, choices: Choices, advance: Callable[[], object]) -> Trained:
    """The networks of a job, in the order of its rows."""
    steps = config.training.length(job.pairs)
    table = Table(data.train)
    rows = job.rows(config.seed)
    tasks = []
    for arm, extra, seed in rows:
        known = choices[job.pairs, seed]
        inputs, outputs = (known.inputs, known.outputs) if extra else (known.pairs[:0], known.pairs[:0])
        if arm == "noise":
            inputs = table.append("inputs", noise(data.train.inputs[inputs], seed))
        if arm == "shuffled":
            outputs = table.append("outputs", shuffled(data.train.outputs[outputs], seed))
        inputs, outputs = (torch.cat([known.pairs, some]) for some in (inputs, outputs))
        # random numbers are those of a seed and a number of pairs, so that arms differ by nothing else
        tasks.append(Task(f"{seed} {job.pairs}", known.pairs, inputs, outputs, weights_of(arm, steps, config)))
    model = config.model if job.tied else config.model.model_copy(update={"tied": False})
    shape = data.train.inputs.shape[1], data.train.outputs.shape[1]
    networks = Networks(model, *shape, [seed for *_, seed in rows], _generator, config.device)
    return train(networks, tasks, table.part, data.validation, config.training, job.terms, advance)


def _generator(seed: int, what: str) -> torch.Generator:
    return seeded_generator(f"structured output {seed} {what}")


class Table:
    """The training set, and what is put in place of it; inputs and outputs beyond it do not belong together."""

    def __init__(self, part: Part) -> None:
        self._parts = {"inputs": [part.inputs], "outputs": [part.outputs]}

    def append(self, name: str, values: Float[Tensor, "n width"]) -> Int[Tensor, " n"]:
        """The numbers of the new rows."""
        first = sum(map(len, self._parts[name]))
        self._parts[name].append(values)
        return torch.arange(first, first + len(values))

    @property
    def part(self) -> Part:
        return Part(*(torch.cat(some) for some in self._parts.values()))


def shuffled(outputs: Float[Tensor, "N m"], seed: int) -> Float[Tensor, "N m"]:
    """Every dimension in an order of its own: distributed as before, without structure."""
    order = torch.rand(outputs.shape, generator=seeded_generator(f"shuffled outputs {seed}")).argsort(0)
    return outputs.gather(0, order.to(outputs.device))


def noise(inputs: Float[Tensor, "N d"], seed: int) -> Float[Tensor, "N d"]:
    """As many pictures of uniform noise."""
    return torch.rand(inputs.shape, generator=seeded_generator(f"noise inputs {seed}")).to(inputs)


def weights_of(arm: str, steps: int, config: Config) -> Float[Tensor, "steps 3"]:
    """λ_sup, λ_in and λ_out of an arm at every step."""
    training = config.training
    parts = (training.supervised, training.inputs, training.outputs)
    progress = torch.arange(steps, dtype=torch.float64) / steps
    if arm == PRETRAINED:
        first = (progress < training.pretraining).double()
        return torch.stack([part.weight * (1 - first if part is parts[0] else first) for part in parts], 1)
    there = (True, arm in ("in", "noise", "in+out"), arm in ("out", "shuffled", "untied", "in+out"))
    found = [importance(progress, part.shape, part.weight, part.begin, part.end) for part in parts]
    return torch.stack([values * has for values, has in zip(found, there, strict=True)], 1)
