"""Points on outer contours, equally spaced, from a start that moves little where the contour moves little."""

import numpy as np
from contourpy import LineType, contour_generator
from jaxtyping import Complex, Float

LEVEL = 0.5


def landmarks(pictures: Float[np.ndarray, "N h w"], count: int) -> Float[np.ndarray, "N count 2"]:
    """`count` points x, y of each picture, on the contour at half of white that encloses most, in pixels from the
    upper left corner; NaN where there is no contour.

    They run clockwise to the eye. The start is where the first Fourier descriptor, the circle that follows the contour
    best, is straight above its centre: unlike the topmost point it is a mean over the contour, and does not jump along
    a flat top.
    """
    number, _, width = pictures.shape
    padded = np.pad(pictures.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    height = padded.shape[1]
    # one picture above the other: a call for each would take several times as long
    lines = contour_generator(z=padded.reshape(-1, width + 2), line_type=LineType.Separate).lines(LEVEL)
    largest: dict[int, tuple[float, Complex[np.ndarray, " p"]]] = {}
    for line in map(np.asarray, lines):
        x, y = line.T
        area = float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2  # y points down: positive is clockwise to the eye
        picture = int(y[0]) // height
        if abs(area) > largest.get(picture, (0.0,))[0]:
            # of the padded picture the first pixel that is not padding has its corner at 0.5
            contour = (x - 0.5) + 1j * (y - picture * height - 0.5)
            largest[picture] = abs(area), contour if area > 0 else contour[::-1]
    found = np.full((number, count, 2), np.nan)
    for picture, (_, contour) in largest.items():
        found[picture] = _spaced(contour, count)
    return found


def _spaced(contour: Complex[np.ndarray, " p"], count: int) -> Float[np.ndarray, "count 2"]:
    """Points of a closed polygon x + iy, its first point repeated at its end."""
    lengths = np.abs(np.diff(contour))
    contour, lengths = contour[np.append(lengths > 0, True)], lengths[lengths > 0]
    places = np.append(0.0, lengths.cumsum())
    lengths, places = lengths / places[-1], places / places[-1]
    # ∮ z(s) e^(−2πis) ds of a polygon, by parts: z′ is constant on each side
    turns = np.exp(-2j * np.pi * places)
    first = np.sum(np.diff(contour) / lengths * np.diff(turns)) / (2 * np.pi) ** 2
    start = (-np.pi / 2 - np.angle(first)) / (2 * np.pi)
    at = (start + np.arange(count) / count) % 1.0
    return np.stack([np.interp(at, places, contour.real), np.interp(at, places, contour.imag)], 1)
