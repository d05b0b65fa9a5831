"""Points on contours: discs and squares to half a pixel, equally spaced, from a start that noise hardly moves."""

import numpy as np
import pytest
import torch

from repro.data.digit_contours import Settings
from repro.data.digit_contours.contours import landmarks
from repro.data.digit_contours.load import load
from repro.data.digit_halves.load import digits

POINTS = 32
Y, X = np.mgrid[:40, :40] + 0.5


def disc(x, y, radius):
    """In grey levels, as much of each pixel as lies within, about."""
    return np.clip(radius - np.hypot(X - x, Y - y) + 0.5, 0, 1)


def square(left, top, side):
    return ((left <= X) & (left + side >= X) & (top <= Y) & (top + side >= Y)).astype(float)


def spacing(points):
    return np.linalg.norm(np.roll(points, -1, 0) - points, axis=1)


@pytest.mark.parametrize(("x", "y", "radius"), [(20.0, 20.0, 12.0), (17.3, 22.6, 9.5), (21.0, 18.4, 15.2)])
def test_a_disc(x, y, radius):
    (points,) = landmarks(disc(x, y, radius)[None], POINTS)
    angles = -np.pi / 2 + 2 * np.pi * np.arange(POINTS) / POINTS  # from the top, clockwise to the eye
    true = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
    assert np.abs(points - true).max() < 0.5
    np.testing.assert_allclose(spacing(points), 2 * radius * np.sin(np.pi / POINTS), rtol=0.03)


@pytest.mark.parametrize(("left", "top", "side"), [(8, 9, 20), (3, 12, 24)])
def test_a_square(left, top, side):
    (points,) = landmarks(square(left, top, side)[None], POINTS)
    places = (np.arange(POINTS) / POINTS * 4 * side + side / 2) % (4 * side)  # from the middle of the top
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side], [0, 0]]) + np.array([left, top])
    true = np.stack([np.interp(places, side * np.arange(5), corners[:, i]) for i in (0, 1)], 1)
    assert np.abs(points - true).max() < 0.5
    steps = spacing(points)
    assert np.median(steps) == pytest.approx(4 * side / POINTS, rel=0.03)
    assert (steps < 1.03 * 4 * side / POINTS).all()  # a chord across a corner is shorter


def test_of_several_contours_the_outer_one_that_encloses_most():
    ring = disc(20, 20, 14) - disc(20, 20, 9)
    speck = square(1, 1, 4)
    (alone,), (with_hole,), (with_speck,) = (
        landmarks(picture[None], POINTS) for picture in (disc(20, 20, 14), ring, np.maximum(ring, speck))
    )
    np.testing.assert_allclose(with_hole, alone, atol=1e-9)
    np.testing.assert_allclose(with_speck, alone, atol=1e-9)


def test_pictures_together_are_pictures_alone_and_the_edge_is_no_edge():
    cut = disc(2.0, 20.0, 9.0)  # runs out of the picture
    pictures = np.stack([disc(20, 20, 12), np.zeros((40, 40)), cut, np.ones((40, 40))])
    together = landmarks(pictures, POINTS)
    assert np.isnan(together[1]).all()
    for number in (0, 2, 3):
        np.testing.assert_allclose(together[number], landmarks(pictures[number : number + 1], POINTS)[0], atol=1e-12)
    np.testing.assert_allclose(together[3].min(0), 0.0, atol=0.51)
    np.testing.assert_allclose(together[3].max(0), 40.0, atol=0.51)


def topmost(points):
    """The start that one would take first, as the control: it jumps along flat tops."""
    return points[points[:, 1].argmin()]


def test_small_noise_moves_the_start_little():
    generator = np.random.default_rng(0)
    clean = digits("mnist5k", None)[::50].numpy() / 255
    noisy = clean + 0.02 * generator.normal(size=clean.shape)
    pairs = list(zip(landmarks(clean, POINTS), landmarks(noisy, POINTS), strict=True))
    moved = np.array([np.abs(one - other).max() for one, other in pairs])
    assert np.quantile(moved, 0.97) < 0.5
    assert np.median(moved) < 0.1


def test_along_a_flat_top_the_start_stays_where_the_topmost_point_jumps():
    generator = np.random.default_rng(1)
    flat = square(8, 9, 20)
    noisy = landmarks(flat + 0.02 * generator.normal(size=(20, 40, 40)), POINTS)
    (clean,) = landmarks(flat[None], POINTS)
    assert np.abs(noisy[:, 0] - clean[0]).max() < 0.5
    assert np.ptp([topmost(points)[0] for points in noisy]) > 5


def settings(**changes):
    return Settings(
        **{"kind": "digit_contours", "source": "mnist5k", "root": None, "points": 8, "side": 28, "warp": 0.5,
           "occlusion": 8, "noise": 0.1, "held_out": 0.2, "validation": 0.1, "seed": 0} | changes
    )  # fmt: skip


def test_pictures_are_those_of_the_digits_and_damaged():
    clean = load(settings(warp=0.0, occlusion=0, noise=0.0))
    torch.testing.assert_close(clean.inputs.view(-1, 28, 28), digits("mnist5k", None).float() / 255, atol=1e-5, rtol=0)
    assert clean.shape == (28, 28)
    assert clean.outputs.shape == (5000, 16)
    assert clean.outputs.abs().max() <= 0.5
    damaged = load(settings())
    torch.testing.assert_close(damaged.outputs, clean.outputs)
    torch.testing.assert_close(damaged.inputs, load(settings()).inputs, atol=0, rtol=0)
    assert not torch.equal(damaged.inputs, load(settings(seed=1)).inputs)
    noisy = load(settings(warp=0.0, occlusion=0))
    occluded = load(settings(warp=0.0, noise=0.0))
    assert ((occluded.inputs == 0) | (occluded.inputs == clean.inputs)).all()
    assert 0 < float((occluded.inputs != clean.inputs).float().mean()) < 0.1
    middle = (clean.inputs > 0.4) & (clean.inputs < 0.6)
    assert float((noisy.inputs - clean.inputs)[middle].std()) == pytest.approx(0.1, rel=0.05)
    assert load(settings(side=14)).inputs.shape == (5000, 196)
