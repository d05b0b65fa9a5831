"""Networks under disjoint and under original DropBlock, on features and on maps, and without: a split of the images
for each seed, which all networks of that seed share."""

from collections.abc import Mapping
from functools import partial
from itertools import product

import pandas as pd
import torch
from torch import Tensor, nn

from repro.data.images import Images, load
from repro.dropout import DropBlock, MaskDistribution, OverlappingDropBlock
from repro.dropout.layers import DropBlock2d
from repro.dropout.original_dropblock import OriginalDropBlock2d, torchvision_drop
from repro.papers.structured_dropout import networks
from repro.papers.structured_dropout.dropblock_approximation import MEASURES, PLACES, Config, of_effect
from repro.pipeline.store import Result
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.theory import retain_probability


def run(config: Config, progress: Progress) -> Result:
    images: dict[int, Images] = {}
    for seed in config.seed:  # the first tells what was read
        data = config.data.model_copy(update={"seed": config.data.seed + seed})
        images[seed] = load(data) if images else load(data, progress.say)
    jobs, rows = [], []
    for seed, (place, scheme, size, retain) in product(config.seed, grid(config)):
        masks, maps = None, None
        if scheme != "none" and place == "features":
            masks = _masks(scheme, config.model.width, size, retain)
        elif scheme != "none":
            maps = partial(_map_dropout, scheme, size, retain, config.options.map_stages)
        jobs.append(
            networks.Job(
                task=networks.task(config, images[seed], seed, masks, maps),
                device=config.device,
                block_size=size if place == "features" else 1,
                monte_carlo_masks=config.options.monte_carlo_masks,
            )
        )
        rows.append({"place": place, "scheme": scheme, "block_size": size, "retain": retain, "seed": seed})
    if "maps" in config.options.places:
        _check_maps(config, _map_sides(config, images[config.seed[0]]))
    table = pd.DataFrame(rows).rename_axis("cell").reset_index()
    with progress.watched(table.to_dict("records")):
        curves = networks.train_all(jobs, config, progress).table
    final = networks.final(curves)
    table = table.assign(**{column: final[column] for column in final})
    return Result(table, curves, {}, _headline(table), images[config.seed[0]].report)


def grid(config: Config) -> list[tuple[str, str, int, float]]:
    """(place, scheme, block size, θ) of every network of one seed; without dropout once, with place "none"."""
    cells: list[tuple[str, str, int, float]] = [("none", "none", 1, 1.0)]
    if "features" in config.options.places:
        for _, size, rate in config.dropout.points():
            retain = retain_probability(rate, config.model.width, size) if config.dropout.p else rate
            cells += [("features", scheme, size, retain) for scheme in ("disjoint", "original")]
    if "maps" in config.options.places:
        size, retain = config.options.map_block_size, config.options.map_retain
        cells += [("maps", scheme, size, retain) for scheme in ("disjoint", "original")]
    return cells


class _Sides(nn.Module):
    """In place of a map dropout: remembers the height and width of the maps that it sees."""

    seen = (0, 0)

    def forward(self, maps: Tensor) -> Tensor:
        self.seen = (maps.shape[-2], maps.shape[-1])
        return maps


def _map_sides(config: Config, images: Images) -> dict[int, tuple[int, int]]:
    """Height and width of the network's maps after each stage, counted from the end, for these images."""
    found: dict[int, _Sides] = {}
    network = networks.task(config, images, 0, None, lambda stage: found.setdefault(stage, _Sides())).build().eval()
    with torch.no_grad():
        network.features(images.normalized(images.train.images[:1]))
    return {stage: sides.seen for stage, sides in found.items()}


def _check_maps(config: Config, sides: Mapping[int, tuple[int, int]]) -> None:
    """A `UserError` where squares do not fit into maps of these sides, or cannot drop as much as they are to."""
    options = config.options
    for stage in options.map_stages:
        if stage not in sides:
            known = f"{config.model.kind} has stages {min(sides)} … -1" if sides else f"{config.model.kind} has none"
            raise UserError(f"options.map_stages=[{','.join(map(str, options.map_stages))}]: {known}")
        try:
            torchvision_drop(*sides[stage], options.map_block_size, options.map_retain)
        except ValueError as error:
            name, _, must = str(error).partition(", got ")[0].partition(" ")
            key = f"map_{name}"
            raise UserError(f"options.{key}={getattr(options, key)}: {must}") from None


def _masks(scheme: str, width: int, size: int, retain: float) -> MaskDistribution:
    return (DropBlock if scheme == "disjoint" else OverlappingDropBlock)(width, size, retain)


def _map_dropout(scheme: str, size: int, retain: float, stages: tuple[int, ...], stage: int) -> nn.Module:
    if stage not in stages:
        return nn.Identity()
    return DropBlock2d(size, retain) if scheme == "disjoint" else OriginalDropBlock2d(size, retain)


def _headline(table: pd.DataFrame) -> dict[str, float]:
    diverged, table = float(table.diverged.sum()), table[~table.diverged]
    found = {"test accuracy, no dropout": float(table.test_accuracy[table.scheme == "none"].mean())}
    for place in (place for place in PLACES if place in set(table.place)):
        for scheme in ("disjoint", "original"):
            mine = table[(table.place == place) & (table.scheme == scheme)]
            found[f"test accuracy, {scheme}, {place}"] = float(mine.test_accuracy.mean())
        gap = of_effect(table, place, "test_accuracy").difference
        found[f"disjoint - original, test accuracy, {place}"] = float(gap.mean())
        found[f"its standard error over seeds, {place}"] = float(gap.sem()) if len(gap) > 1 else float("nan")
        for column, words in MEASURES.items():
            pairs = of_effect(table, place, column)
            found[f"(disjoint - original) / (original - none), {words}, {place}"] = float(pairs.fraction.mean())
    return found | {"diverged networks": diverged}
