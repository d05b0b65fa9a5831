"""Trains every method on the images, the seeds side by side, and looks at what it predicts and has learned."""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.data.images import Images, ImageSet, load
from repro.models.variational.build import Network
from repro.models.variational.layers import VariationalLinear
from repro.papers.variational_structured_dropout.networks import Trained, arms, choose, each, split, told, trained
from repro.papers.variational_structured_dropout.variational_classification import Config
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress
from repro.theory.householder import reflected
from repro.training.sweep.noise import seeded_generator
from repro.training.variational import metrics
from repro.training.variational.arms import Arm
from repro.training.variational.loop import Loss

RESAMPLES = 200  # of the test images, for the interval of the calibration error
LEVELS = np.linspace(0, 1, 101)  # at which entropies' distributions are kept


class Problem(NamedTuple):
    """Rows of pixels and classes: of training, of testing, and what is not known."""

    name: str
    inputs: Tensor
    labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int
    unknown: dict[str, Tensor]


class Looked(NamedTuple):
    cells: pd.DataFrame
    curves: pd.DataFrame
    arrays: dict[str, np.ndarray]


def run(config: Config, progress: Progress) -> Result:
    work = [partial(_measured, config, arm, problem) for problem in _problems(config) for arm in arms(config.options)]
    found = each(config, progress, "variational classification", work)
    cells = choose(pd.concat([looked.cells for looked in found], ignore_index=True), "validation_likelihood")
    cells = cells.rename_axis("cell").reset_index()
    place = cells[["cell", "problem", "arm", "seed"]]
    curves = pd.concat([looked.curves for looked in found], ignore_index=True)
    curves = curves.merge(place, on=["problem", "arm", "seed"], validate="many_to_one")
    arrays = {name: array for looked in found for name, array in looked.arrays.items()}
    return Result(cells, curves.drop(columns=["problem", "arm", "seed"]), arrays, _headline(cells))


def _problems(config: Config) -> list[Problem]:
    """All classes, with rotated and shuffled images beside; and half of the classes with the other half beside."""
    images = load(config.data)
    pool, half = config.options.pool, (images.classes + 1) // 2
    generator = torch.Generator().manual_seed(config.data.seed)

    def rows(part: ImageSet) -> Tensor:
        return torch.nn.functional.avg_pool2d(images.normalized(part.images), pool).flatten(1)

    turned = ImageSet(images.test.images.rot90(1, (2, 3)), images.test.labels)
    test = rows(images.test)
    shuffled = test[:, torch.randperm(test.shape[1], generator=generator)]
    unknown = {"rotated": rows(turned), "shuffled": shuffled}
    found = [
        Problem(
            "all classes", rows(images.train), images.train.labels, test, images.test.labels, images.classes, unknown
        )
    ]
    if config.options.halves:
        found.append(_half(images, rows, half))
    return found


def _half(images: Images, rows: object, half: int) -> Problem:
    assert callable(rows)
    train, test = (part[(part.labels < half).nonzero()[:, 0]] for part in (images.train, images.test))
    rest = images.test[(images.test.labels >= half).nonzero()[:, 0]]
    unknown = {"other classes": rows(rest)}
    return Problem("half of the classes", rows(train), train.labels, rows(test), test.labels, half, unknown)


def _measured(config: Config, arm: Arm, problem: Problem) -> Looked:
    options, training = config.options, config.training
    if problem.name != "all classes":
        training = training.model_copy(update={"steps": max(2, training.steps // 2)})
        config = config.model_copy(update={"training": training})
    parts = [
        split(len(problem.labels), options.validation, seeded_generator(f"split {problem.name} {seed}"))
        for seed in config.seed
    ]
    train, validation = (torch.stack(part) for part in zip(*parts, strict=True))
    inputs, labels, seeds = problem.inputs[train], problem.labels[train], len(config.seed)
    curves: list[pd.DataFrame] = []

    def measure(network: Network, loss: Loss, step: int) -> None:
        if arm.name != "ensemble":
            curves.append(_norms(network, config, step).assign(problem=problem.name, arm=arm.name))

    key = f"{problem.name} {config.seed}"
    found = trained(config, options, arm, inputs, labels, problem.classes, _losses, key, measure)

    def predicted(rows: Tensor, what: str) -> Tensor:
        rows = rows if rows.ndim == 3 else rows.expand(seeds, -1, -1)
        return torch.softmax(found.draws(rows, training.samples, f"{key} {what}"), -1)

    draws = predicted(problem.test_inputs, "test")
    mean = draws.mean(0)
    known = predicted(problem.inputs[validation], "validation").mean(0)
    likelihood = known.gather(-1, problem.labels[validation][..., None]).clamp_min(1e-30).log().mean((1, 2))
    table = pd.DataFrame([metrics.quality(p, problem.test_labels, options.bins) for p in mean])
    again = seeded_generator(f"bootstrap {key}")
    intervals = [metrics.bootstrapped_ece(p, problem.test_labels, options.bins, RESAMPLES, again) for p in mean]
    table["ece_low"], table["ece_high"] = zip(*intervals, strict=True)
    table["validation_likelihood"] = likelihood.numpy()
    table["elbo"] = found.elbo(inputs, labels, training.samples, key)
    table["alignment"] = _alignment(found, inputs)
    table["smallest_mean"] = _smallest_mean(found)
    entropy, information = metrics.entropy(mean), metrics.mutual_information(draws)
    of = {name: predicted(rows, name) for name, rows in problem.unknown.items()}
    for name, other in of.items():
        pairs = {"auroc": (entropy, metrics.entropy(other.mean(0)))}
        pairs |= {"auroc_information": (information, metrics.mutual_information(other))}
        for column, (inside, outside) in pairs.items():
            every = [metrics.detection(a, b) for a, b in zip(inside, outside, strict=True)]
            table[f"{column}, {name}"] = [one[0] for one in every]
            if column == "auroc":
                table[f"aupr of unknown, {name}"] = [one[1] for one in every]
                table[f"aupr of known, {name}"] = [one[2] for one in every]
    for column in ("auroc", "auroc_information"):
        table[column] = table[[f"{column}, {name}" for name in of]].mean(axis=1)
    table["auroc_control"] = [metrics.detection(e[::2], e[1::2])[0] for e in entropy]
    table = told(table, found).assign(problem=problem.name, arm=arm.name, seed=config.seed)
    label = f"{problem.name}/{arm.name}"
    arrays = {
        f"reliability/{label}": torch.stack([metrics.reliability(p, problem.test_labels, options.bins) for p in mean])
    }
    arrays |= {f"entropy/{label}/known": _distribution(entropy)}
    arrays |= {f"entropy/{label}/{name}": _distribution(metrics.entropy(p.mean(0))) for name, p in of.items()}
    kept = {name: array.numpy() for name, array in arrays.items()} | _structure(found, inputs, label)
    return Looked(table, pd.concat(curves) if curves else pd.DataFrame(), kept)


def _losses(copies: int, device: str) -> tuple[Loss, tuple[Tensor, ...]]:
    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        found = torch.nn.functional.cross_entropy(outputs.flatten(0, -2), labels.flatten(), reduction="none")
        return found.view(labels.shape)

    return loss, ()


@torch.no_grad()
def _norms(network: Network, config: Config, step: int) -> pd.DataFrame:
    """Spectral norm and stable rank of each layer's mean weight, and its divergence: `spectral_norm_1`, …"""
    columns: dict[str, Tensor] = {}
    for number, layer in enumerate(network.layers(), 1):
        values = torch.linalg.svdvals(layer.mean_weight)
        stable = values.square().sum(-1) / values[:, 0].square()
        found = {"spectral_norm": values[:, 0], "stable_rank": stable, "kl": layer.kl()}
        columns |= {f"{name}_{number}": column for name, column in found.items()}
    table = pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})
    return table.assign(step=step, seed=config.seed)


def _first(found: Trained) -> VariationalLinear | None:
    layer = next(found.network.layers())
    rotated = isinstance(layer, VariationalLinear) and bool(layer.vectors.shape[-2])
    return layer if isinstance(layer, VariationalLinear) and rotated else None


@torch.no_grad()
def _curvatures(layer: VariationalLinear, inputs: Tensor) -> Tensor:
    """u_kᵀGu_k of each column of U for G = (ΘΘᵀ)∘(HᵀH/N), (seeds, K)."""
    weight = layer.weight.cpu()
    gram = (weight @ weight.mT) * (inputs.mT @ inputs / inputs.shape[1])
    rows = reflected(torch.eye(gram.shape[-1]).expand_as(gram), layer.vectors.cpu())  # row k is u_k
    return ((rows @ gram) * rows).sum(-1)


@torch.no_grad()
def _alignment(found: Trained, inputs: Tensor) -> np.ndarray:
    layer = _first(found)
    if layer is None or found.arm.tied:
        return np.full(len(inputs), math.nan)
    pairs = zip(layer.rates.cpu().log(), _curvatures(layer, inputs).clamp_min(1e-12).log(), strict=True)
    return np.array([float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs])


@torch.no_grad()
def _smallest_mean(found: Trained) -> np.ndarray:
    layers = [layer for layer in found.network.layers() if isinstance(layer, VariationalLinear)]
    least = [layer.mean.abs().min(-1).values for layer in layers]
    return torch.stack(least).min(0).values.cpu().numpy() if least else np.full(len(found.diverged), math.nan)


@torch.no_grad()
def _structure(found: Trained, inputs: Tensor, label: str) -> dict[str, np.ndarray]:
    """(rates, curvatures) of the first seed's first layer."""
    if (layer := _first(found)) is None:
        return {}
    return {f"structure/{label}": torch.stack([layer.rates[0].cpu(), _curvatures(layer, inputs)[0]]).numpy()}


def _distribution(entropy: Tensor) -> Tensor:
    """The share of entropies up to each level, all seeds pooled."""
    return torch.from_numpy(np.searchsorted(np.sort(entropy.flatten().numpy()), LEVELS, "right") / entropy.numel())


def _headline(cells: pd.DataFrame) -> dict[str, float]:
    kept = cells[cells.chosen & (cells.problem == cells.problem.iloc[0])]
    means = kept.groupby("arm")[["error", "nll", "brier", "ece", "ece_low", "ece_high", "auroc"]].mean()
    found = {f"{column}, {arm}": float(means[column][arm]) for column in means for arm in means.index}
    return found | {"diverged": float(cells.diverged.sum())}
