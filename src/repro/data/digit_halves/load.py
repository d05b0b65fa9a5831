from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from repro.data.digit_halves import Settings
from repro.data.mnist5k.load import mnist5k
from repro.pipeline.system.errors import UserError


def load(settings: Settings) -> tuple[Float[Tensor, "b N"], Float[Tensor, "a N"]]:
    """X the upper and Y the lower half of the training digits, 392 pixels each, both centred."""
    pixels = digits(settings.source, settings.root).flatten(1).double().T
    pixels -= pixels.mean(1, keepdim=True)
    return pixels[:392], pixels[392:]


def digits(source: Literal["mnist5k", "mnist"], root: str | None) -> UInt8[Tensor, "N 28 28"]:
    """The digits that a dependency carries, or MNIST's training images.

    Raises:
        UserError: MNIST is not there, or damaged.
    """
    return mnist5k().images[:, 0] if source == "mnist5k" else mnist(root)


def mnist(root: str | None) -> UInt8[Tensor, "N 28 28"]:
    """MNIST's training images from torchvision's layout, `root`/MNIST/raw/…, without waiting for torchvision to load.

    Raises:
        UserError: the file is not there, or damaged.
    """
    root = root or "data"
    file = Path(root) / "MNIST" / "raw" / "train-images-idx3-ubyte"
    try:
        content = np.fromfile(file, np.uint8)
        _, *shape = content[:16].view(">u4").tolist()  # what it holds, and its three dimensions
        found = torch.from_numpy(content[16:].reshape(shape))
    except FileNotFoundError as error:
        what = f"data.root={root}: holds no MNIST (MNIST/raw/{file.name})"
        raise UserError(f"{what}; data.source=mnist5k needs no files") from error
    except (OSError, ValueError) as error:
        what = f"{file}: damaged or cut off, or cannot be read ({error})"
        raise UserError(f"{what}; data.source=mnist5k needs no files") from error
    if found.shape[1:] != (28, 28):
        raise UserError(f"data.root={root}: images must be 28 × 28, got {tuple(found.shape[1:])}")
    return found
