"""A folder of pictures with points beside them: crops, splits, and what is told in one line."""

import numpy as np
import pytest
import torch
from PIL import Image

from repro.data import pairs
from repro.data.landmarks import Settings
from repro.data.landmarks.load import cropped, read_points
from repro.pipeline import settings as configs
from repro.pipeline.store import Run
from repro.pipeline.system.errors import UserError

POINTS = 68


def face(folder, name, number, *, size=(90, 70), mode="RGB", points=POINTS, suffix=".pts"):
    """A picture of noise with a bright square, and points within it."""
    generator = np.random.default_rng(number)
    width, height = size
    levels = generator.integers(0, 100, (height, width, 3), dtype=np.uint8)
    levels[20:60, 30:70] += 120
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).convert(mode).save(folder / f"{name}.png")
    places = generator.uniform([32, 22], [68, 58], (points, 2))
    if suffix == ".pts":
        lines = ["version: 1", f"n_points:  {points}", "{", *(f"{x:.6f} {y:.6f}" for x, y in places), "}"]
    else:
        lines = ["x,y", *(f"{x:.6f},{y:.6f}" for x, y in places)]
    (folder / f"{name}{suffix}").write_text("\n".join(lines) + "\n")
    return places


@pytest.fixture
def faces(tmp_path):
    """Grey and colour, of several sizes, the points in both kinds of file."""
    root = tmp_path / "faces"
    for number in range(24):
        look = {"size": (90 + number, 70 + number % 5), "mode": ("RGB", "L", "RGBA")[number % 3]}
        face(root, f"one{number:02}", number, **look, suffix=(".pts", ".csv")[number % 2])
    return root


def settings(root, **changes):
    return Settings(
        **{"kind": "landmarks", "root": root and str(root), "side": 20, "margin": 0.1, "background": "white",
           "held_out": 0.25, "validation": 0.2, "seed": 0} | changes
    )  # fmt: skip


def test_a_folder_of_faces(faces):
    data = pairs.load(settings(faces))
    assert [len(part.inputs) for part in (data.train, data.validation, data.test)] == [14, 4, 6]
    assert data.train.inputs.shape == (14, 400)
    assert data.train.outputs.shape == (14, 136)
    assert data.shape == (20, 20)
    for part in (data.train, data.test):
        assert part.inputs.amin(1).eq(0).all()
        assert part.inputs.amax(1).eq(1).all()
        edge = 0.5 - 0.1 / 1.2  # points reach the crop's margin, and no farther
        assert part.outputs.abs().amax(1).sub(edge).abs().max() < 1e-6


def test_where_points_count_from(tmp_path):
    """The centre of the first pixel is at 1 in .pts and at 0 in .csv, and half a pixel from the corner."""
    face(tmp_path, "a", 0)
    (tmp_path / "a.pts").write_text("version: 1\nn_points: 3\n{\n1 1\n2 5\n3 4\n}\n")
    (tmp_path / "a.csv").write_text("0,0\n1,4\n2,3\n")
    np.testing.assert_allclose(read_points(tmp_path / "a.pts"), [[0.5, 0.5], [1.5, 4.5], [2.5, 3.5]])
    np.testing.assert_allclose(read_points(tmp_path / "a.csv"), [[0.5, 0.5], [1.5, 4.5], [2.5, 3.5]])


def test_points_lie_where_they_lie_in_the_picture():
    """A bright square with its corners as points: in the crop they are its corners too, also beyond the edge."""
    for left, top in ((30, 20), (0, 0), (55, 45)):
        picture = np.zeros((64, 74, 3), np.uint8)
        picture[top : top + 16, left : left + 16] = 255
        corners = np.array([[left, top], [left + 16, top], [left + 16, top + 16], [left, top + 16]], dtype=float)
        crop, points = cropped(picture, corners, 24, 0.25)  # a box of 24: one pixel a pixel
        low, high = ((points.min(0) + 0.5) * 24).round().astype(int), ((points.max(0) + 0.5) * 24).round().astype(int)
        np.testing.assert_array_equal([*low, *high], [4, 4, 20, 20])
        expected = np.zeros((24, 24))
        expected[4:20, 4:20] = 1
        visible = min(16, 64 - top)
        expected[4 + visible : 20] = 0
        np.testing.assert_allclose(crop, expected, atol=0.01)


def test_what_is_called_test_is_tested_on(tmp_path):
    for number in range(9):
        face(tmp_path / "lfpw" / ("testset" if number < 2 else "trainset"), f"image_{number:04}", number)
    data = pairs.load(settings(tmp_path))
    assert [len(part.inputs) for part in (data.train, data.validation, data.test)] == [6, 1, 2]
    assert data.report["tested_on"] == 2


def replaced(name, text):
    return lambda root: (root / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "one02.pts").unlink(), r"one02.png: no points beside it, one02.pts or .csv$"),
        (lambda root: [(root / f"one0{i}.pts").unlink() for i in (2, 4)], r"one02.png: no points .* \(2 pictures lack"),
        (lambda root: (root / "one02.csv").write_text("1,2"), r"one02.csv and one02.pts: which of them has the points"),
        (lambda root: (root / "one02.png").unlink(), r"one02.pts: points without a picture beside them$"),
        (lambda root: (root / "one02.bmp").write_bytes(b""), r"one02.bmp: two pictures of that name"),
        (replaced("one02.pts", "version: 1\n1 2\n"), r"one02.pts: no points between \{ and \}$"),
        (replaced("one02.pts", "n_points: 4\n{\n1 2\n3 4\n5 7\n}"), r"one02.pts: says n_points: 4 and holds 3$"),
        (replaced("one02.pts", "n_points: 3\n{\n1 2\n3 4\n5 7\n}"), r"one02.pts: 3 points; one00.pts has 68$"),
        (
            replaced("one02.pts", "{\n1 2\n3 nan\n5 7\n}"),
            r"one02.pts: point 2 must be two numbers, x and y; got 3 nan$",
        ),
        (replaced("one03.csv", "x,y\n1,2,3\n"), r"one03.csv: point 1 must be two numbers, x and y; got 1 2 3$"),
        (replaced("one03.csv", "x,y\n"), r"one03.csv: needs three points or more"),
        (replaced("one02.png", "no picture"), r"one02.png: not an image that can be read"),
    ],
)
def test_what_does_not_fit_is_one_line(faces, change, message):
    change(faces)
    with pytest.raises(UserError, match=message) as error:
        pairs.load(settings(faces))
    assert "\n" not in str(error.value)


def test_no_folder_and_no_pictures(tmp_path):
    with pytest.raises(ValueError, match=r"data.root=null: data=landmarks needs the folder of the pictures"):
        settings(None)
    with pytest.raises(UserError, match="holds no pictures"):
        pairs.load(settings(tmp_path))


def test_a_folder_is_known_by_its_content(faces, tmp_path):
    def known(root):
        typed = ["experiment=structured_output_landmarks", "scale=smoke", "device=cpu", "data=landmarks"]
        return Run(configs.load([*typed, f"data.root={root}"])).place.fingerprint

    one = known(faces)
    moved = faces.rename(tmp_path / "moved")
    assert known(moved) == one
    places = (moved / "one02.pts").read_text()
    (moved / "one02.pts").write_text(places.replace("n_points:  68", "n_points: 68"))
    assert known(moved) != one


def test_crops_are_the_same_again(faces):
    assert torch.equal(pairs.load(settings(faces)).test.inputs, pairs.load(settings(faces)).test.inputs)
