import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import grid_sample, interpolate

from repro.data.digit_contours import Settings
from repro.data.digit_contours.contours import landmarks
from repro.data.digit_halves.load import digits
from repro.data.pairs import Read

KNOTS = 4  # of the field that warps, a side


def load(settings: Settings) -> Read:
    """Digits without a contour (next to empty pictures) are left out."""
    clean = digits(settings.source, settings.root).float() / 255
    box = clean.shape[-1]
    points = torch.from_numpy(landmarks(clean.numpy(), settings.points)).flatten(1)
    kept = points.isfinite().all(1)
    pictures = damaged(clean, settings, torch.Generator().manual_seed(settings.seed))[kept]
    side = settings.side
    if side != box:
        pictures = interpolate(pictures[:, None], (side, side), mode="bilinear", antialias=True)[:, 0]
    return Read(pictures.flatten(1).clamp(0, 1), points[kept] / box - 0.5, (side, side))


def damaged(clean: Float[Tensor, "N h w"], settings: Settings, generator: Generator) -> Float[Tensor, "N h w"]:
    """Pictures warped by a smooth random field, with a black rectangle and normal noise; each has its own."""
    count, height, width = clean.shape
    field = settings.warp * torch.randn(count, 2, KNOTS, KNOTS, generator=generator)
    shift = interpolate(field, (height, width), mode="bicubic", align_corners=True).movedim(1, -1)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = (torch.stack([columns, rows], -1) + shift + 0.5) / torch.tensor([width, height]) * 2 - 1
    warped = grid_sample(clean[:, None], place, align_corners=False)[:, 0]
    size = (torch.rand(count, 2, 1, 1, generator=generator) / 2 + 0.5) * settings.occlusion
    start = torch.rand(count, 2, 1, 1, generator=generator) * (torch.tensor([height, width])[:, None, None] - size)
    inside = [(start[:, i] <= where) & (where < start[:, i] + size[:, i]) for i, where in enumerate((rows, columns))]
    noise = settings.noise * torch.randn(clean.shape, generator=generator)
    return (warped.masked_fill(inside[0] & inside[1], 0.0) + noise).clamp(0, 1)
