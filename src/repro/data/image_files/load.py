from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from repro.data.image_files import Settings
from repro.data.image_files.pictures import pixels
from repro.data.image_files.source import Picture
from repro.data.image_files.used import find
from repro.data.images import ImageSet, Read
from repro.data.report import Report
from repro.pipeline.system.errors import UserError


def load(settings: Settings) -> Read:
    source, conversions = find(settings), Counter[str]()
    train = _decoded(source.train(), settings, conversions)
    test = _decoded(source.test(), settings, conversions) if source.test else None
    return Read(train, test, Report(source.names, source.splits, conversions, source.not_read))


def _decoded(pictures: Sequence[Picture], settings: Settings, conversions: Counter[str]) -> ImageSet:
    """Pictures of one size; adds what was done to how many of them to `conversions`."""
    if not pictures:
        raise UserError(f"data.root={settings.root}: holds no rows")
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(partial(pixels, background=settings.background, side=settings.image_size), pictures))
    sizes = {one.values.shape[1::-1]: picture.name for one, picture in zip(decoded, pictures, strict=True)}
    if len(sizes) > 1:
        (size, one), (another, other), *_ = sizes.items()
        examples = f"{one} has {size[0]} × {size[1]} pixels, {other} {another[0]} × {another[1]}"
        raise UserError(f"data.root={settings.root}: images of {len(sizes)} sizes; all must have one ({examples})")
    conversions.update(name for one in decoded for name in one.conversions)
    images = torch.from_numpy(np.stack([one.values for one in decoded])).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor([picture.label for picture in pictures]))
