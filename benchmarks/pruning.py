"""Pruned networks: how fast they are, and what pruning them costs beside torch-pruning's own pruners.

    python benchmarks/pruning.py

One thread, float32. First the ConvNet on images of CIFAR-10's size and LeNet-5 on digits', with random weights, at five
times fewer MACs: whole, masked, filters cut, columns gathered, for 1 and 128 images. Cut networks must give the masked
one's logits before they are timed. Then the ConvNet on digits: one baseline network a seed, filters pruned to the same
MACs in the same number of updates over the same batches by our one-shot, GReg-1 and IncReg, and by torch-pruning's
growing-reg and group-norm pruners, whose strengths are chosen on the validation images; accuracy, and seconds of a run.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from repro.data.images import load
from repro.models.convnet import Settings as ConvNetSettings
from repro.models.convnet.build import ConvNet
from repro.models.lenet5 import Settings as LeNet5Settings
from repro.models.lenet5.build import LeNet5
from repro.pipeline.settings import load as load_settings
from repro.pruning import OneShot, conv_macs, cut, speed_up
from repro.training.pruning.kinds import method_of
from repro.training.pruning.loop import Stage, begin, fit
from repro.training.pruning.networks import Classifier, Data, Layer, accuracy, pruned_layers
from support.timing import interleaved, ratio, save, seconds_per_call, shown, summary

CONFIG = load_settings(["experiment=incremental_pruning_convnet", "scale=cpu", "device=cpu", "training.groups=filter"])
TRAINING, SPEED_UP, SEEDS, SECONDS = CONFIG.training, 5.0, (0, 1, 2), 8.0
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Of torch-pruning's penalties: delta_reg over ours, and reg."""
TOLERANCE = 1e-4
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "ConvNet": (lambda: ConvNet(ConvNetSettings(kind="convnet", channels=(32, 32, 64)), 3, 10, 0), (3, 32, 32)),
    "LeNet-5": (lambda: LeNet5(LeNet5Settings(kind="lenet5", channels=(20, 50), hidden=500), 1, 10, 0), (1, 28, 28)),
}


# ---------------------------------------------------------------------- how fast


def masks_of(network: Classifier, kind: str, share: float, example: Tensor) -> dict[str, Tensor]:
    """The largest groups of every layer but ⌈share·n⌉."""
    found = {}
    for name in pruned_layers(network, kind, example):
        layer = Layer(network, name, kind, ())
        method = OneShot(len(layer), share)
        method.update(layer.scores())
        found[name] = method.alive
    return found


def smaller(network: Classifier, kind: str, example: Tensor) -> tuple[nn.Module, dict[str, Tensor], float, float]:
    """The network cut to at least `SPEED_UP`, with its masks, the share of groups that went and the speed-up."""
    whole = conv_macs(network, tuple(example.shape[1:]))
    for percent in range(5, 96, 5):
        masks = masks_of(network, kind, percent / 100, example)
        made = cut(network, example, **{f"{kind}s": masks})
        gain = speed_up(whole, conv_macs(made, tuple(example.shape[1:])))
        if gain >= SPEED_UP:
            return made, masks, percent / 100, gain
    raise SystemExit("no ratio reaches the speed-up")


@torch.no_grad()
def apart(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    """Largest distance of logits, of the largest."""
    return float((one(x) - other(x)).abs().max() / other(x).abs().max())


@torch.inference_mode()
def timed(network: nn.Module, x: Tensor) -> None:
    network(x)


def times(name: str) -> tuple[dict[str, object], dict[str, dict[str, float]]]:
    """Milliseconds of a forward pass, and how many times as fast as the whole network."""
    build, shape = NETWORKS[name]
    network = Classifier(build()).eval().requires_grad_(False)
    example = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    filters, _, share, gain = smaller(network, "filter", example)
    columns, alive, column_share, column_gain = smaller(network, "column", example)
    masked = deepcopy(network)
    for layer, kept in alive.items():
        Layer(masked, layer, "column", ()).mask_(kept)
    if not (wrong := apart(columns, masked, example)) < TOLERANCE:
        raise SystemExit(f"{name}: cut and masked logits are {wrong:.1e} apart")
    kinds = {"whole": network, "masked": masked, "filters cut": filters, "columns gathered": columns}
    print(f"{name}: filters −{share:.0%}, {gain:.2f} × fewer MACs; columns −{column_share:.0%}, {column_gain:.2f} ×")
    found: dict[str, object] = {"speed_up": {"filters cut": gain, "columns gathered": column_gain}}
    ratios = {}
    for count in (1, 128):
        x = torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))
        calls: dict[str, Callable[[], object]] = {}
        for kind, made in kinds.items():
            calls[f"{kind}, NCHW"] = partial(timed, made.eval(), x)
            last = deepcopy(made).eval().to(memory_format=torch.channels_last)
            calls[f"{kind}, NHWC"] = partial(timed, last, x.contiguous(memory_format=torch.channels_last))
        every = {key: [1e3 * t for t in row] for key, row in seconds_per_call(calls, seconds=SECONDS).items()}
        best = {
            kind: min((f"{kind}, NCHW", f"{kind}, NHWC"), key=lambda key: summary(every[key])["median"])
            for kind in kinds
        }
        found[f"{count} images"] = {key: summary(row) for key, row in every.items()}
        for kind in ("masked", "filters cut", "columns gathered"):
            ratios[f"{name}, {count} images, {kind}"] = ratio(every[best["whole"]], every[best[kind]])
        for kind in kinds:
            times_faster = ratio(every[best["whole"]], every[best[kind]])
            row = shown(summary(every[best[kind]]), 3), best[kind][-4:], shown(times_faster, 2)
            print(
                f"  {count:>3} images, {kind:<18}{row[0]:>26} ms, {row[1]}{row[2]:>22} × as fast as whole", flush=True
            )
    return found, ratios


# ---------------------------------------------------------------------- beside torch-pruning


def baseline(data: Data, seed: int) -> Classifier:
    """A trained network of a seed."""
    network = Classifier(ConvNet(ConvNetSettings(kind="convnet", channels=(32, 32, 64)), 1, 10, seed, (28, 28)))
    network.to(memory_format=torch.channels_last)
    steps = TRAINING.epochs * (len(data.train) // TRAINING.batch_size)
    fit(begin(network, TRAINING, {}, {}), data, Stage("training", seed, steps, TRAINING.learning_rate), TRAINING)
    return network


def ours(method: str, share: float, network: Classifier, data: Data, seed: int) -> nn.Module:
    """Pruned, fine-tuned and cut."""
    network = deepcopy(network)
    example = data.inputs(data.train.images[:4])
    layers = {
        name: Layer(network, name, "filter", more) for name, more in pruned_layers(network, "filter", example).items()
    }
    methods = {
        name: method_of(method, len(layer), share, TRAINING, TRAINING.gentleness, name)
        for name, layer in layers.items()
    }
    pruning = begin(network, TRAINING, layers, methods)
    fit(pruning, data, Stage("pruning", seed, TRAINING.updates, TRAINING.rate, TRAINING.pruning), TRAINING)
    return cut(network, example, filters={name: method.alive for name, method in methods.items()})


def theirs(kind: str, strength: float, share: float, network: Classifier, data: Data, seed: int) -> nn.Module:
    """The same schedule around a pruner of torch-pruning, which cuts after `TRAINING.pruning` updates."""
    network = deepcopy(network)
    example = data.inputs(data.train.images[:4])
    shared = {"pruning_ratio": share, "ignored_layers": [network.network.head]}
    if kind == "growing-reg":
        growth = strength * TRAINING.ceiling(TRAINING.gentleness) / TRAINING.pruning
        importance = tp.importance.GroupMagnitudeImportance(p=1)
        pruner = tp.pruner.GrowingRegPruner(network, example, importance, reg=0.0, delta_reg=growth, **shared)
    else:
        importance = tp.importance.GroupMagnitudeImportance(p=2)
        pruner = tp.pruner.GroupNormPruner(network, example, importance, reg=strength, **shared)
    stage = Stage("pruning", seed, TRAINING.updates, TRAINING.rate, TRAINING.pruning)

    def optimizer() -> torch.optim.SGD:
        return torch.optim.SGD(
            network.parameters(), lr=TRAINING.rate, momentum=TRAINING.momentum, weight_decay=TRAINING.weight_decay
        )

    sgd = optimizer()
    for update in range(TRAINING.updates):
        if update == TRAINING.pruning:
            pruner.step()
            sgd = optimizer()  # of parameters that are smaller now
        for group in sgd.param_groups:
            group["lr"] = stage.rate_at(update)
        images, labels = data.batch("pruning", seed, update, TRAINING.batch_size)
        sgd.zero_grad()
        cross_entropy(network(images), labels).backward()
        if update < TRAINING.pruning:
            pruner.regularize(network)
            if kind == "growing-reg":
                pruner.update_reg()
        sgd.step()
    return network.eval()


def peers() -> tuple[dict[str, object], dict[str, dict[str, float]]]:
    data = Data.of(load(CONFIG.data), CONFIG.data, TRAINING, "cpu")
    networks = [baseline(data, seed) for seed in SEEDS]
    example = data.inputs(data.train.images[:4])
    _, _, share, gain = smaller(networks[0], "filter", example)
    whole = conv_macs(networks[0], tuple(example.shape[1:]))
    runs: dict[str, Callable[[Classifier, int], nn.Module]] = {
        "one-shot": lambda network, seed: ours("one_shot", share, network, data, seed),
        "GReg-1": lambda network, seed: ours("greg_1", share, network, data, seed),
        "IncReg": lambda network, seed: ours("inc_reg", share, network, data, seed),
    }
    for kind in ("growing-reg", "group-norm"):
        tried = {
            s: accuracy(theirs(kind, s, share, networks[0], data, SEEDS[0]), data, data.validation) for s in STRENGTHS
        }
        best = max(tried, key=lambda s: tried[s] if math.isfinite(tried[s]) else -1)
        print(f"torch-pruning's {kind}: strength {best:g} of {tried} on validation images")
        runs[f"torch-pruning {kind}"] = lambda network, seed, kind=kind, s=best: theirs(
            kind, s, share, network, data, seed
        )
    found: dict[str, object] = {"speed_up": gain}
    print(f"ConvNet on digits, filters −{share:.0%}; baseline {accuracy(networks[0], data, data.images.test):.3f}")
    for name, run in runs.items():
        made = [run(network, seed) for network, seed in zip(networks, SEEDS, strict=True)]
        scores = [accuracy(one, data, data.images.test) for one in made]
        gains = [speed_up(whole, conv_macs(one, tuple(example.shape[1:]))) for one in made]
        found[name] = {"accuracy": scores, "speed_up": gains}
        print(f"  {name:<28} test accuracy {scores}, {gains[0]:.2f} × fewer MACs", flush=True)
    timings = interleaved({name: partial(run, networks[0], 0) for name, run in runs.items()}, seconds=40.0, at_least=3)
    for name, timing in timings.items():
        found[name] |= {"seconds": summary(timing.wall)}
        print(f"  {name:<28} {shown(summary(timing.wall), 2)} s")
    ratios = {
        f"pruning beside torch-pruning {kind}": ratio(timings[f"torch-pruning {kind}"].wall, timings["GReg-1"].wall)
        for kind in ("growing-reg", "group-norm")
    }
    return found, ratios


def main() -> None:
    torch.set_num_threads(1)
    found, ratios = {}, {}
    for name in NETWORKS:
        found[name], more = times(name)
        ratios |= more
    found["peers"], more = peers()
    save("pruning", found, ratios | more)


if __name__ == "__main__":
    main()
