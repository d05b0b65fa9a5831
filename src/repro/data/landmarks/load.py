import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from repro.data.image_files.pictures import pixels
from repro.data.image_files.source import Picture
from repro.data.landmarks import Settings
from repro.data.landmarks.used import find
from repro.data.pairs import Read
from repro.pipeline.system.errors import UserError


def load(settings: Settings) -> Read:
    """Crops as the paper has them: grey, each from its own darkest to its brightest pixel, points (c / box) − 0.5.

    Raises:
        UserError: a picture or points that cannot be read, or pictures with different numbers of points.
    """
    found = find(Path(settings.root or ""))
    crops: list[np.ndarray] = []
    shapes: list[np.ndarray] = []
    for one in found:
        points = read_points(one.points)
        if shapes and len(points) != len(shapes[0]):
            raise UserError(f"{one.points}: {len(points)} points; {found[0].points.name} has {len(shapes[0])}")
        picture = pixels(Picture(one.picture, str(one.picture), 0), settings.background, None).values
        crop, shape = cropped(picture, points, settings.side, settings.margin)
        crops.append(crop.flatten())
        shapes.append(shape)
    test = torch.tensor([one.test for one in found])
    report = {"pictures": len(found), "points": len(shapes[0]), "tested_on": int(test.sum())}
    outputs = torch.from_numpy(np.stack(shapes).reshape(len(shapes), -1))
    inputs = torch.from_numpy(np.stack(crops))
    return Read(inputs, outputs, (settings.side, settings.side), test if test.any() else None, report)


def read_points(file: Path) -> Float[np.ndarray, "points 2"]:
    """x, y in pixels from the upper left corner of the picture. A `.pts` file counts pixels from 1, as 300-W does: the
    centre of the first is at 1. A `.csv` counts from 0; a first row that is no numbers names its columns."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    pts = file.suffix.lower() == ".pts"
    if pts:
        body = re.search(r"\{(.*?)\}", text, re.DOTALL)
        said = re.search(r"n_points:\s*(\d+)", text)
        if body is None:
            raise UserError(f"{file}: no points between {{ and }}")
        text = body[1]
    rows = [re.split(r"[,;\s]+", line.strip()) for line in text.splitlines() if line.strip()]
    if rows and not pts and not _number(rows[0][0]):
        rows = rows[1:]
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or not all(map(_number, row)):
            raise UserError(f"{file}: point {number} must be two numbers, x and y; got {' '.join(row)[:40]}")
    if pts and said and int(said[1]) != len(rows):
        raise UserError(f"{file}: says n_points: {said[1]} and holds {len(rows)}")
    points = np.array(rows, dtype=np.float64) - (0.5 if pts else -0.5) if rows else np.empty((0, 2))
    if len(points) < 3 or (np.ptp(points, axis=0) == 0).any():
        raise UserError(f"{file}: needs three points or more, not all on a line")
    return points


def _number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def cropped(
    picture: np.ndarray, points: Float[np.ndarray, "points 2"], side: int, margin: float
) -> tuple[Float[np.ndarray, "side side"], Float[np.ndarray, "points 2"]]:
    """The square around the points, from (height, width, 3) bytes; beyond the picture's edge it is black.

    Returns:
        Grey levels from 0, the darkest, to 1; and the points, (coordinate / box) − 0.5.
    """
    low, high = points.min(0), points.max(0)
    box = float((high - low).max()) * (1 + 2 * margin)
    corner = (low + high - box) / 2
    grey = Image.fromarray(picture).convert("L")
    extent = (*corner, *(corner + box))
    # `resize` averages over the pixels that become one, and takes no box beyond the edge: so a frame first
    frame = [max(0, int(np.ceil(-min(corner)))), max(0, int(np.ceil(max(corner[0] + box - grey.width,
                                                                       corner[1] + box - grey.height))))]  # fmt: skip
    framed = Image.new("L", (grey.width + sum(frame), grey.height + sum(frame)))
    framed.paste(grey, (frame[0], frame[0]))
    shifted = tuple(place + frame[0] for place in extent)
    found = np.asarray(framed.resize((side, side), Image.Resampling.BILINEAR, box=shifted), dtype=np.float64)
    span = np.ptp(found)
    return (found - found.min()) / span if span else np.zeros_like(found), (points - corner) / box - 0.5
