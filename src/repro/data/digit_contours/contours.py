"""Points on an outer contour, equally spaced, from a start that moves little where the contour moves little."""

import numpy as np
from contourpy import LineType, contour_generator
from jaxtyping import Float

LEVEL = 0.5
DENSE = 512  # points on which the start is found


def landmarks(picture: Float[np.ndarray, "h w"], count: int) -> Float[np.ndarray, "count 2"] | None:
    """`count` points x, y on the contour at half of white that encloses most, in pixels from the upper left corner of
    the picture; None where there is no contour.

    They run clockwise as one sees it. The start is where the first Fourier descriptor, the turning ellipse that fits
    the contour best, is straight above its centre: unlike the topmost point it is a mean over the contour, and does
    not jump along a flat top.
    """
    padded = np.pad(np.asarray(picture, dtype=np.float64), 1)
    found = contour_generator(z=padded, line_type=LineType.Separate).lines(LEVEL)
    closed = [np.asarray(line) for line in found if len(line) > 3]
    if not closed:
        return None
    line = max(closed, key=lambda points: abs(_area(points)))
    if _area(line) < 0:  # y points down: a positive area is clockwise to the eye
        line = line[::-1]
    # of a padded picture whose first pixel has its centre at 1, and its corner at 0.5
    z = (line[:, 0] - 0.5) + 1j * (line[:, 1] - 0.5)
    z = z[np.append(True, z[1:] != z[:-1])]
    length = np.append(0.0, np.abs(np.diff(z)).cumsum())
    length /= length[-1]

    def at(places: np.ndarray) -> np.ndarray:
        places = places % 1.0
        return np.interp(places, length, z.real) + 1j * np.interp(places, length, z.imag)

    places = np.arange(DENSE) / DENSE
    first = (at(places) * np.exp(-2j * np.pi * places)).mean()
    start = (-np.pi / 2 - np.angle(first)) / (2 * np.pi)
    points = at(start + np.arange(count) / count)
    return np.stack([points.real, points.imag], 1)


def _area(points: np.ndarray) -> float:
    x, y = points.T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)
