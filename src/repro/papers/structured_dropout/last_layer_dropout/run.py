"""Networks with and without dropout of their last hidden layer, beside the closed form for Y."""

from dataclasses import replace
from itertools import product
from math import isnan, nan

import numpy as np
import pandas as pd
import torch

from repro import theory
from repro.data.images import Images, load
from repro.dropout import Bernoulli, DropBlock, MaskDistribution
from repro.dropout.distribution import masks_of
from repro.papers.expectation import agreement
from repro.papers.structured_dropout import networks
from repro.papers.structured_dropout.last_layer_dropout import Config, series
from repro.papers.structured_dropout.last_layer_dropout.rivals import RIVALS, SIZES, WEIGHTS
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress

# Draws of a mask for each image: as many as leave the mean of the loss a standard error below half a percent.
FORWARD_MASKS = 64


def run(config: Config, progress: Progress) -> Result:
    images = load(config.data, progress.say)
    masks, table = cells_of(config)
    lengths = {int(n): config.training.model_copy(update={"epochs": int(n)}) for n in table.epochs.unique()}
    jobs = [
        networks.Job(
            task=replace(networks.task(config, images, int(seed), mask), training=lengths[int(epochs)]),
            device=config.device,
            block_size=1 if width % size else int(size),
            monte_carlo_masks=config.options.monte_carlo_masks,
            forward_masks=FORWARD_MASKS,
            measurements=config.options.measurements,
        )
        for mask, seed, width, size, epochs in zip(
            masks, *(table[name] for name in ("seed", "width", "block_size", "epochs")), strict=True
        )
    ]
    with progress.watched(table.to_dict("records")):
        curves, trained = networks.train_all(jobs, config, progress)
    target, closed = closed_forms(images, table, bias=config.model.head_bias)
    measured, predicted = trained["singular_values"], closed["singular_values"]
    apportioned = apportioned_forms(target, table)
    energy = float((target**2).sum())
    final = networks.final(curves)
    table = table.assign(
        **{column: final[column] for column in final},
        closed_form=closed["objective"] / energy,
        gap=final.deterministic - closed["objective"] / energy,
        closed_form_rank=closed["rank"],
        closed_form_effective_rank=closed["effective_rank"],
        singular_value_error=_errors(measured, predicted),
        resolution=0.0 if config.model.embedding else _errors(apportioned, predicted),
    )
    arrays = {
        "target": target,
        "singular_values": measured,
        "closed_form": predicted,
        "rivals": rival_forms(target, table),
        "apportioned": apportioned,
        "block_norms": trained["block_norms"],
    }
    return Result(table, curves, arrays, _headline(table, curves), images.report)


def cells_of(config: Config) -> tuple[list[MaskDistribution | None], pd.DataFrame]:
    """The grid of noise and seeds at the network's width, and a network without dropout for each seed.

    The table has θ (`retain`), λ (`penalty_weight`, NaN without a closed form) and p = 1/(1+λ) of each cell; without a
    closed form p is that of DropBlock with the same block size and θ.
    """
    width, seeds = config.model.width, config.seed if config.options.without else ()
    masks: list[MaskDistribution | None] = [None for _ in seeds]
    shares = sorted(config.options.lengths, reverse=True)  # side by side the longest come first
    lengths = [max(1, round(share * config.training.epochs)) for share in shares]
    rows = [("none", 1, 1.0, width, seed, 0.0, 1.0, max(lengths)) for seed in seeds]
    for (noise, size, rate), seed, epochs in product(config.dropout.points(), config.seed, lengths):
        retain = theory.retain_probability(rate, width, size) if config.dropout.p else rate
        mask = masks_of(noise, width, size, retain)
        odds = size / width * (1 - retain) / retain
        block, weight = (size, odds) if isinstance(mask, Bernoulli | DropBlock) else _closed_form_of(mask, size)
        masks.append(mask)
        p = 1 / (1 + (odds if isnan(weight) else weight))
        rows.append((noise.scheme, block, retain, width, seed, weight, p, epochs))
    names = ["scheme", "block_size", "retain", "width", "seed", "penalty_weight", "p", "epochs"]
    return masks, pd.DataFrame(rows, columns=names).rename_axis("cell").reset_index()


def _closed_form_of(mask: MaskDistribution, size: int) -> tuple[int, float]:
    """r and λ of any noise; the given block size and NaN for one without a closed form."""
    if (blocks := theory.equal_blocks(mask.relative_covariance)) is None:
        return size, nan
    r, weight = blocks
    return r, weight * r / mask.width


def closed_forms(
    images: Images, table: pd.DataFrame, *, bias: bool = False
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The singular values of Y, and for each row of `table` the closed form's, their `rank` and `effective_rank`, and
    its `objective`; NaN where there is no closed form.

    With a `bias` in the last layer Y is centred: min over b of ‖Y − A − b1ᵀ‖² + λ‖A‖²_(r) is at b = mean(Y − A), which
    leaves ‖(Y − A)C‖² with C = 1 − 11ᵀ/N, and a centred A has the smaller norm.
    """
    targets = images.targets.double()
    counts = torch.bincount(images.train.labels, minlength=images.classes).double()
    if bias:
        targets = targets - counts @ targets / counts.sum()
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


def rival_forms(target: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """What other theories say of each row of `table`, (rows, `RIVALS`, n); NaN where there is no closed form. A rival
    that coincides with the closed form is at no distance from it, and never asked."""
    values, n = torch.from_numpy(target), len(target)
    rivals = np.full((len(table), len(RIVALS), n), nan)
    for row, (size, weight, width) in enumerate(table[["block_size", "penalty_weight", "width"]].to_numpy()):
        if isnan(weight):
            continue
        odds = weight * width / size
        forms = [(q, q / width * odds) for q in SIZES]  # another block size, with the weight that would be its own
        forms += [(n, n / width * odds), (n, odds), (n, weight), (1, weight), (1, 0.0)]
        forms += [(size, factor * weight) for factor in WEIGHTS]
        rivals[row] = [theory.shrink_singular_values(values, int(q), float(w)).numpy() for q, w in forms]
    return rivals


def apportioned_forms(target: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """`theory.apportioned_spectrum` of each row of `table`, (rows, n); NaN where there is no closed form."""
    forms = np.full((len(table), len(target)), nan)
    for row, (size, weight, width) in enumerate(table[["block_size", "penalty_weight", "width"]].to_numpy()):
        if not isnan(weight):
            spectrum = theory.apportioned_spectrum(
                torch.from_numpy(target), int(size), int(width), weight * width / size
            )
            forms[row] = spectrum.numpy()
    return forms


def _errors(measured: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """‖σ − a‖/‖a‖ of each row."""
    return np.linalg.norm(measured - predicted, axis=1) / np.linalg.norm(predicted, axis=1)


def _headline(table: pd.DataFrame, curves: pd.DataFrame) -> dict[str, float]:
    found = agreement(curves.dropna(subset="monte_carlo")) if "monte_carlo" in curves else {}
    diverged, table = float(table.diverged.sum()), table[~table.diverged]
    known = table[(table.scheme != "none") & table.penalty_weight.notna()]
    for (scheme, size), title in series(known).items():
        rows, title = known[(known.scheme == scheme) & (known.block_size == size)], title.replace("$", "")
        found[f"singular value error, {title}"] = float(rows.singular_value_error.max())
    found["largest gap to the closed form, of ||Y||^2"] = float(known.gap.max())
    found["smallest tightness"] = float(known.tightness.min())
    bare = table[table.scheme == "none"]
    if len(bare):
        found["test accuracy without dropout"] = float(bare.test_accuracy.mean())
    return found | {"diverged networks": diverged}
