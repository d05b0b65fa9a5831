"""Trains baseline networks, prunes each by every method, cuts what is left, and measures it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from math import nan
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from repro.data.images import load
from repro.papers.incremental_regularization.incremental_pruning import Config
from repro.pipeline.composition.wording import shown
from repro.pipeline.settings import implementation
from repro.pipeline.store import Result, Run
from repro.pipeline.system import threads
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.pipeline.system.threads import torch_threads
from repro.pruning import conv_macs, cut, speed_up, target
from repro.training.pruning.floor import Round, to_floor
from repro.training.pruning.kinds import method_of
from repro.training.pruning.loop import Pruning, Stage, begin, fit
from repro.training.pruning.networks import Classifier, Data, Layer, Names, Network, accuracy, pruned_layers

ROWS = 8  # that a network logs
COMPARED = 100  # images on which the cut network is compared with the masked one
FEW = 4  # images from which it is found what hangs on what


Measured = tuple[Mapping[str, object], pd.DataFrame, Sequence[tuple[int, float]]]
"""A network's row, its curve, and of each layer the groups and the multiply-accumulates that are left."""


@dataclass(frozen=True)
class Cell:
    """One network to prune; `mode` is `ratio` or `floor`."""

    mode: str
    method: str
    ratio: float
    gentleness: float
    seed: int

    @property
    def name(self) -> str:
        return "-".join(map(str, (self.mode, self.method, self.ratio, self.gentleness, self.seed)))


class _Stopped(Exception):
    """Another network has failed."""


def cells_of(config: Config) -> list[Cell]:
    """In the order in which they train: those of a seed together."""
    options, usual = config.options, config.training.gentleness
    found = []
    for seed in config.seed:
        found += [Cell("ratio", name, ratio, usual, seed) for name in options.methods for ratio in options.ratios]
        found += [Cell("ratio", name, options.reference, usual, seed) for name in options.controls]
        others = [e for e in options.gentleness if e != usual]
        found += [Cell("ratio", "inc_reg", options.reference, e, seed) for e in others]
        found += [Cell("floor", "inc_reg", nan, usual, seed)] if options.floor else []
    return found


def run(config: Config, progress: Progress) -> Result:
    training, options = config.training, config.options
    images = load(config.data, progress.say)
    data = Data.of(images, config.data, training, config.device)
    if training.batch_size > len(data.train):
        allowed = f"must be at most {len(data.train)}, the training images that are not held out"
        raise UserError(f"training.batch_size={training.batch_size}: {allowed}")
    networks = {seed: build(config, data, seed) for seed in config.seed}
    whole = networks[config.seed[0]]
    names = pruned_layers(whole, training.groups, data.inputs(data.images.test.images[:1]))
    sizes = check(config, whole, names)
    cells, steps = cells_of(config), training.epochs * (len(data.train) // training.batch_size)
    kept = Run(config)
    shape = cast(tuple[int, int, int], tuple(images.train.images.shape[1:]))
    macs = conv_macs(whole, shape)  # before threads copy it: its hooks would be copied too
    work = _Work(config, data, names, kept, steps, shape, macs)
    lengths = {"ratio": training.updates, "floor": options.floor.updates * options.floor.rounds if options.floor else 0}
    total = len(config.seed) * steps + sum(lengths[cell.mode] for cell in cells)
    count = threads.available(config.threads) if config.device == "cpu" else 1
    if resumed := len([*kept.checkpoints.glob("*.pt")]):
        progress.say(f"going on from the checkpoints of {resumed} networks in {kept.checkpoints}")
    with (
        progress.phase(f"{len(config.seed) + len(cells)} networks, updates", total) as bar,
        torch_threads(1 if config.device == "cpu" else torch.get_num_threads()),
        ThreadPoolExecutor(count, initializer=_one_thread) as pool,
    ):
        work.bar = bar
        baselines = {seed: pool.submit(work.baseline, seed, networks[seed]) for seed in config.seed}
        futures = [pool.submit(work.prune, cell, baselines[cell.seed]) for cell in cells]
        try:
            found = [future.result() for future in futures]
        except BaseException:
            work.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    curves = pd.concat([curve.assign(cell=number) for number, (_, curve, _) in enumerate(found)], ignore_index=True)
    table = pd.DataFrame([{**vars(cell), **row} for cell, (row, _, _) in zip(cells, found, strict=True)])
    table = table.rename_axis("cell").reset_index()
    arrays = {
        "layers": np.array([name.removeprefix("network.") for name in names]),
        "groups": np.array([*sizes.values()]),
        "macs": np.array([work.macs[name] for name in names]),
        "left": np.stack([[left for left, _ in layers] for _, _, layers in found]),
        "macs_left": np.stack([[part for _, part in layers] for _, _, layers in found]),
    }
    usual = table[(table["mode"] == "ratio") & (table.gentleness == training.gentleness)]
    return Result(table, curves, arrays, _headline(usual))


def build(config: Config, data: Data, seed: int) -> Classifier:
    """The network of a seed before training, on the training device."""
    make = cast(Callable[..., nn.Module], implementation(config.model, "build"))
    shape = data.images.train.images.shape
    size = {"size": tuple(shape[2:])} if "size" in signature(make).parameters else {}
    network = make(config.model, shape[1], data.images.classes, seed, **size)
    if not isinstance(network, Network):
        raise UserError(f"model.kind={config.model.kind}: its network must have `features` and a linear `head`")
    placed = Classifier(network).to(config.device)
    if config.training.channels_last:
        placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def check(config: Config, network: Classifier, names: Names) -> dict[str, int]:
    """The groups of each layer that is pruned; a `UserError` where there is none, or a ratio removes all of one."""
    kind = config.training.groups
    sizes = {name: len(Layer(network, name, kind, ())) for name in names}
    if not sizes:
        raise UserError(f"model.kind={config.model.kind}: has no convolutions of which {kind}s can be removed")
    least, count = min(sizes.items(), key=lambda item: item[1])
    for ratio in config.options.ratios:
        if target(count, ratio) == count:
            layer = least.removeprefix("network.")
            allowed = f"must be at most {1 - 1 / count:.4g}"
            raise UserError(f"options.ratios={shown(ratio)}: removes all {count} {kind}s of {layer}; {allowed}")
    return sizes


@dataclass
class _Work:
    """What the threads do."""

    config: Config
    data: Data
    names: Names
    run: Run
    steps: int
    shape: tuple[int, int, int]
    macs: Mapping[str, int]

    def __post_init__(self) -> None:
        self.stopped, self.cutting = threading.Event(), threading.Lock()
        self.code = self.run.code
        self.bar: Progress | None = None

    def advance(self, updates: int) -> None:
        if self.stopped.is_set():
            raise _Stopped
        if self.bar is not None:
            self.bar.advance(updates)

    def baseline(self, seed: int, network: Classifier) -> tuple[Classifier, float]:
        """The network of a seed and its accuracy on test images."""
        training = self.config.training
        pruning = begin(network, training, {}, {})
        stage = Stage("training", seed, self.steps, training.learning_rate, log=self.steps)
        path = self.run.checkpoints / f"baseline-{seed}.pt"
        fit(pruning, self.data, stage, training, path=path, code=self.code, advance=self.advance)
        return network, accuracy(network, self.data, self.data.images.test)

    def prune(self, cell: Cell, baseline: "Future[tuple[Classifier, float]]") -> Measured:
        original, before = baseline.result()
        network, floor = deepcopy(original), self.config.options.floor
        if cell.mode == "floor" and floor is not None:
            validation = accuracy(network, self.data, self.data.validation)
            pruning, rounds = to_floor(
                network, self.names, self.data, self.config.training, cell.seed, floor=validation - floor.margin,
                updates=floor.updates, rounds=floor.rounds, folder=self.run.checkpoints, code=self.code,
                advance=self.advance,
            )  # fmt: skip
            row = _of_floor(rounds, validation - floor.margin)
            return self._measured(pruning, before, row, _curve(rounds))
        pruning = self._at_ratio(cell, network)
        return self._measured(pruning, before, _of_ratio(pruning), pd.DataFrame(pruning.rows))

    def _at_ratio(self, cell: Cell, network: Classifier) -> Pruning:
        training = self.config.training
        layers = {name: Layer(network, name, training.groups, others) for name, others in self.names.items()}
        methods = {
            name: method_of(cell.method, len(layer), cell.ratio, training, cell.gentleness, f"{cell.seed} {name}")
            for name, layer in layers.items()
        }
        pruning = begin(network, training, layers, methods)
        log, probe = -(-training.updates // ROWS), self.config.options.probe
        stage = Stage("pruning", cell.seed, training.updates, training.rate, training.pruning, probe, log)
        path = self.run.checkpoints / f"{cell.name}.pt"
        fit(pruning, self.data, stage, training, path=path, code=self.code, advance=self.advance)
        return pruning

    def _measured(
        self, pruning: Pruning, before: float, measured: Mapping[str, object], curve: pd.DataFrame
    ) -> Measured:
        data, network = self.data, pruning.network
        broken = not all(parameter.isfinite().all() for parameter in network.parameters())
        row: dict[str, object] = {"baseline": before, **measured, "diverged": broken}
        alive = {name: method.alive for name, method in pruning.methods.items()}
        left = [int(alive[name].sum()) if name in alive else len(layer) for name, layer in pruning.layers.items()]
        if broken:
            unknown = dict.fromkeys(("accuracy", "validation", "speed_up", "cut_difference"), nan)
            return row | unknown, curve, [(count, nan) for count in left]
        example = data.inputs(data.images.test.images[:COMPARED])
        with self.cutting:  # the dependency graph is not made for several threads
            smaller = cut(network, example[:FEW], **{f"{self.config.training.groups}s": alive}) if alive else network
            macs = conv_macs(smaller, self.shape)
        row |= {
            "accuracy": accuracy(network, data, data.images.test),
            "validation": accuracy(network, data, data.validation),
            "speed_up": speed_up(self.macs, macs),
            "cut_difference": _difference(network, smaller, example),
        }
        return row, curve, [(count, float(macs[name])) for name, count in zip(pruning.layers, left, strict=True)]


def _of_ratio(pruning: Pruning) -> Mapping[str, object]:
    methods = pruning.methods.values()
    return {
        "removed": sum(method.removed for method in methods),
        "target": sum(method.target for method in methods),
        "forced": pruning.forced,
        "recovered": sum(int(groups.sum()) for groups in pruning.recovered.values()),
        "moments": len(pruning.removals),
        "last_removal": max((row["step"] for row in pruning.removals), default=nan),
        "lost": sum(row["accuracy"] for row in pruning.removals),
        "lost_loss": -sum(row["loss"] for row in pruning.removals),
        "floor": nan,
    }


def _of_floor(rounds: Sequence[Round], floor: float) -> Mapping[str, object]:
    return {"reached": max(row.ratio for row in rounds if row.kept), "floor": floor}


def _curve(rounds: Sequence[Round]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"step": number, **row._asdict(), "kept": float(row.kept)} for number, row in enumerate(rounds)]
    )


@torch.no_grad()
def _difference(masked: Classifier, smaller: nn.Module, example: Tensor) -> float:
    expected, found = masked.eval()(example), smaller.eval()(example)
    return float((found - expected).abs().max() / expected.abs().max())


def _one_thread() -> None:
    torch.set_num_threads(1)
    # Penalised weights fall below 1e-38, and processors take many times as long with such numbers.
    torch.set_flush_denormal(True)


def _headline(table: pd.DataFrame) -> dict[str, float]:
    mean = table.groupby(["ratio", "method"]).accuracy.mean()
    found = {f"accuracy at R = {ratio:g}, {method}": float(value) for (ratio, method), value in mean.items()}
    return {"accuracy, baseline": float(table.baseline.mean())} | found
