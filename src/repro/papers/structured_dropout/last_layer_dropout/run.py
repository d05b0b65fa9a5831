"""Networks with and without dropout of their last hidden layer, beside the closed form for Y."""

from collections.abc import Callable
from itertools import product
from math import isnan, nan
from typing import cast

import numpy as np
import pandas as pd
import torch

from repro import theory
from repro.data.images import Images, load
from repro.dropout import Bernoulli, DropBlock, MaskDistribution
from repro.papers.expectation import agreement
from repro.papers.structured_dropout import networks
from repro.papers.structured_dropout.last_layer_dropout import Config, series
from repro.papers.structured_dropout.last_layer_dropout.claims import LIGHT
from repro.pipeline.settings import implementation
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress

CURVE_POINTS = 80  # of a closed-form curve over p in a figure

# A predicted singular value below this fraction of the largest has collapsed, and no relative error.
NEGLIGIBLE = 1e-2


def run(config: Config, progress: Progress) -> Result:
    images = load(config.data)
    masks, table = cells_of(config)
    jobs = [
        networks.Job(
            task=networks.task(config, images, int(seed), mask),
            device=config.device,
            block_size=1 if width % size else int(size),
            monte_carlo_masks=config.options.monte_carlo_masks,
        )
        for mask, seed, width, size in zip(masks, table.seed, table.width, table.block_size, strict=True)
    ]
    curves, trained = networks.train_all(jobs, config, progress)
    target, closed = closed_forms(images, table)
    measured, predicted = trained["singular_values"], closed["singular_values"]
    energy = float((target**2).sum())
    final = networks.final(curves)
    table = table.assign(
        **{column: final[column] for column in final},
        closed_form=closed["objective"] / energy,
        gap=final.deterministic - closed["objective"] / energy,
        closed_form_rank=closed["rank"],
        closed_form_effective_rank=closed["effective_rank"],
        singular_value_error=_errors(measured, predicted),
        worst_singular_value_error=_errors(measured, predicted, worst=True),
    )
    arrays = {
        "target": target,
        "singular_values": measured,
        "closed_form": predicted,
        "block_norms": trained["block_norms"],
        **_shrinkage_curves(target, table),
    }
    return Result(table, curves, arrays, _headline(table, curves))


def cells_of(config: Config) -> tuple[list[MaskDistribution | None], pd.DataFrame]:
    """The grid of noise and seeds at the network's width, and a network without dropout for each seed.

    The table has θ (`retain`), λ (`penalty_weight`, NaN without a closed form) and p = 1/(1+λ) of each cell; without a
    closed form p is that of DropBlock with the same block size and θ.
    """
    width, seeds = config.model.width, config.seed if config.options.without else ()
    masks: list[MaskDistribution | None] = [None for _ in seeds]
    rows = [("none", 1, 1.0, width, seed, 0.0, 1.0) for seed in seeds]
    for (noise, size, rate), seed in product(config.dropout.points(), config.seed):
        retain = theory.retain_probability(rate, width, size) if config.dropout.p else rate
        make = cast(Callable[..., MaskDistribution], implementation(noise, "masks"))
        mask = make(noise, width, size, retain, outputs=0, inputs=0)  # on neither factor
        odds = size / width * (1 - retain) / retain
        block, weight = (size, odds) if isinstance(mask, Bernoulli | DropBlock) else _closed_form_of(mask, size)
        masks.append(mask)
        rows.append((noise.scheme, block, retain, width, seed, weight, 1 / (1 + (odds if isnan(weight) else weight))))
    names = ["scheme", "block_size", "retain", "width", "seed", "penalty_weight", "p"]
    return masks, pd.DataFrame(rows, columns=names).rename_axis("cell").reset_index()


def _closed_form_of(mask: MaskDistribution, size: int) -> tuple[int, float]:
    """r and λ of any noise; the given block size and NaN for one without a closed form."""
    if (blocks := theory.equal_blocks(mask.relative_covariance)) is None:
        return size, nan
    r, weight = blocks
    return r, weight * r / mask.width


def closed_forms(images: Images, table: pd.DataFrame) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The singular values of Y, and for each row of `table` the closed form's, their `rank` and `effective_rank`, and
    its `objective`; NaN where there is no closed form."""
    targets = images.targets.double()
    counts = torch.bincount(images.train.labels, minlength=images.classes).double()
    # Y Yᵀ = Tᵀ diag(n_c) T for the classes' targets T, one a row: no N-sized product.
    values = torch.linalg.eigvalsh(targets.mT @ (counts[:, None] * targets)).clamp_min(0).sqrt().flip(-1)
    spectra, rows = [], []
    for size, weight in table[["block_size", "penalty_weight"]].itertuples(index=False):
        shrunk, row = torch.full_like(values, nan), {}
        if not isnan(weight):
            shrunk = theory.shrink_singular_values(values, int(size), float(weight))
            row["objective"] = float(theory.minimum_value(values, int(size), float(weight)))
            row |= {"rank": int((shrunk > 0).sum()), "effective_rank": float(theory.effective_rank(shrunk))}
        spectra.append(shrunk.numpy())
        rows.append(row)
    found = pd.DataFrame(rows, columns=["objective", "rank", "effective_rank"])
    return values.numpy(), {"singular_values": np.stack(spectra), **{name: found[name].to_numpy() for name in found}}


def _shrinkage_curves(target: np.ndarray, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Σa(p) of the closed form over the range of the table: `curve_p`, and a `curve_r…` for each block size."""
    odds = table.penalty_weight[table.penalty_weight > 0]
    if odds.empty:
        return {}
    weights = np.geomspace(odds.min() / 2, odds.max() * 2, CURVE_POINTS)
    curves, values = {"curve_p": 1 / (1 + weights)}, torch.from_numpy(target)
    for size in table.block_size[table.penalty_weight > 0].unique():
        shrunk = [float(theory.shrink_singular_values(values, int(size), float(w)).sum()) for w in weights]
        curves[f"curve_r{size}"] = np.array(shrunk)
    return curves


def _errors(measured: np.ndarray, predicted: np.ndarray, *, worst: bool = False) -> np.ndarray:
    """‖σ − a‖/‖a‖ of each row; with `worst` the largest relative error of a value that has not collapsed."""
    if not worst:
        return np.linalg.norm(measured - predicted, axis=1) / np.linalg.norm(predicted, axis=1)
    kept = predicted > NEGLIGIBLE * predicted[:, :1]
    relative = np.abs(measured - predicted) / np.where(kept, predicted, 1)
    return np.where(np.isnan(predicted[:, 0]), nan, np.where(kept, relative, 0).max(1))


def _headline(table: pd.DataFrame, curves: pd.DataFrame) -> dict[str, float]:
    found = agreement(curves.dropna(subset="monte_carlo")) if "monte_carlo" in curves else {}
    diverged, table = float(table.diverged.sum()), table[~table.diverged]
    known = table[(table.scheme != "none") & table.penalty_weight.notna()]
    light = known[known.retain >= LIGHT]
    for (scheme, size), title in series(light).items():
        rows, title = light[(light.scheme == scheme) & (light.block_size == size)], title.replace("$", "")
        found[f"singular value error at theta >= 0.5, {title}"] = float(rows.singular_value_error.max())
        found[f"worst singular value at theta >= 0.5, {title}"] = float(rows.worst_singular_value_error.max())
    found["largest gap to the closed form at theta >= 0.5, of ||Y||^2"] = float(light.gap.max())
    found["smallest tightness"] = float(known.tightness.min())
    bare = table[table.scheme == "none"]
    if len(bare):
        found["test accuracy without dropout"] = float(bare.test_accuracy.mean())
    return found | {"diverged networks": diverged}
