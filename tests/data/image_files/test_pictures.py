"""One picture, however it is stored: the right 8-bit RGB, or a line that names file and mode."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from repro.data.image_files import pictures
from repro.data.image_files.source import Picture
from repro.pipeline.system.errors import UserError

GREY_16 = np.array([[0, 257, 32768], [65535, 24929, 128]], np.uint16)
GREY_8 = [[0, 1, 128], [255, 97, 0]]  # v·255/65535, rounded


def read(content, background="white", side=None):
    found = pictures.pixels(Picture(content, "it.png", 0), background, side)
    assert (found.values.dtype, found.values.shape[2]) == (np.uint8, 3)
    return found.values, found.conversions


def refused(content):
    with pytest.raises(UserError) as error:
        read(content)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_to_8(encoded, form):
    values, done = read(encoded(Image.fromarray(GREY_16), form))
    assert values.tolist() == [[[v] * 3 for v in row] for row in GREY_8]
    assert done == ["16 bits scaled to 8"]


def test_a_tiff_of_16_bits_whose_zero_is_white(encoded):
    content = encoded(Image.fromarray(GREY_16), "TIFF", tiffinfo={262: 0})
    assert read(content)[0][:, :, 0].tolist() == [[255 - v for v in row] for row in GREY_8]


def png_rgb_16(values):
    """A PNG of 16 bits a channel, which Pillow reads and does not write."""
    height, width, _ = values.shape

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


def test_16_bits_a_channel_keep_the_upper_8():
    values, done = read(png_rgb_16(np.array([[[65535, 24929, 511], [0, 256, 32768]]], np.uint16)))
    assert values.tolist() == [[[255, 97, 1], [0, 1, 128]]]
    assert done == ["16 bits a channel, the upper 8 kept"]


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [[1, 2, 3], [4, 5, 6]]), (2, [[3, 2, 1], [6, 5, 4]]), (3, [[6, 5, 4], [3, 2, 1]]),
        (4, [[4, 5, 6], [1, 2, 3]]), (5, [[1, 4], [2, 5], [3, 6]]), (6, [[4, 1], [5, 2], [6, 3]]),
        (7, [[6, 3], [5, 2], [4, 1]]), (8, [[3, 6], [2, 5], [1, 4]]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_exif_turns(encoded, form, orientation, expected):
    picture = Image.fromarray(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    values, done = read(encoded(picture, form, exif=exif, **({"lossless": True} if form == "WEBP" else {})))
    assert values[:, :, 0].tolist() == expected
    assert done == (["turned as EXIF says"] if orientation > 1 else [])


def test_exif_turns_a_photograph_and_leaves_an_odd_one(encoded):
    picture = Image.new("RGB", (32, 16))
    picture.paste((255, 255, 255), (0, 0, 16, 16))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # its left edge is the top
    assert read(encoded(picture, "JPEG", exif=exif))[0][:, :, 0].mean(1).round().tolist() == [255] * 16 + [0] * 16
    assert read(encoded(picture, exif=b"Exif\0\0nothing"))[0].shape == (16, 32, 3)


@pytest.mark.parametrize(("background", "ground"), [("white", 255), ("black", 0)])
def test_transparent_pixels_are_put_on_the_background(encoded, background, ground):
    rgba = np.array([[[200, 10, 20, 0], [200, 10, 20, 255], [200, 0, 100, 51]]], np.uint8)
    expected = [[ground] * 3, [200, 10, 20], [round(0.2 * c + 0.8 * ground) for c in (200, 0, 100)]]
    values, done = read(encoded(Image.fromarray(rgba)), background)
    assert (values[0].tolist(), done) == (expected, [f"transparent pixels put on {background}"])
    grey = Image.fromarray(np.array([[[9, 0], [9, 255]]], np.uint8), "LA")
    assert read(encoded(grey), background)[0].tolist() == [[[ground] * 3, [9] * 3]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 8, 7, 60, 50, 40])
    palette.putpixel((1, 0), 1)
    for form in ("PNG", "GIF"):
        assert read(encoded(palette, form, transparency=1), background)[0].tolist() == [[[9, 8, 7], [ground] * 3]]


def test_a_channel_of_transparency_that_hides_nothing_is_no_conversion(encoded):
    values, done = read(encoded(Image.new("RGBA", (2, 2), (3, 4, 5, 255))))
    assert (values[0, 0].tolist(), done) == ([3, 4, 5], [])


def test_palette_one_bit_grey_and_cmyk(encoded):
    palette = Image.new("P", (1, 1))
    palette.putpalette([9, 8, 7])
    assert [values.tolist() for values in read(encoded(palette))[:1]] == [[[[9, 8, 7]]]]
    assert read(encoded(palette))[1] == ["palette to RGB"]
    one_bit = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    for form in ("PNG", "TIFF", "BMP", "PPM"):
        values, done = read(encoded(one_bit, form))
        assert (values.tolist(), done) == ([[[0] * 3, [255] * 3]], ["1 bit to RGB"])
    assert read(encoded(Image.new("L", (1, 1), 77)))[0].tolist() == [[[77] * 3]]
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red
    values, done = read(encoded(cmyk, "TIFF"))
    assert (values[0, 0].tolist(), done) == ([255, 0, 0], ["CMYK to RGB, without colour profiles"])
    assert np.abs(read(encoded(cmyk, "JPEG", quality=100))[0].astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize(
    ("mode", "form", "why"),
    [
        ("F", "TIFF", "it.png: TIFF of mode F has no one 8-bit form; convert it"),
        ("I", "TIFF", "it.png: TIFF of mode I has no one 8-bit form; convert it"),
        ("LAB", "TIFF", "it.png: TIFF of mode LAB has no one 8-bit form; convert it"),
    ],
)
def test_what_has_no_one_8_bit_form_is_refused_by_file_and_mode(encoded, mode, form, why):
    assert refused(encoded(Image.new(mode, (2, 2)), form)) == why


def test_a_picture_is_resized_after_it_was_put_on_its_background(encoded):
    rgba = np.array([[[255, 0, 0, 0], [255, 0, 0, 0]], [[0, 0, 0, 255], [0, 0, 0, 255]]], np.uint8)
    assert read(encoded(Image.fromarray(rgba)), side=1)[0].tolist() == [[[128] * 3]]


def test_several_pictures_in_a_file(encoded):
    frames = [Image.new("RGB", (2, 2), (99 * n, 0, 0)) for n in range(3)]
    for form in ("GIF", "TIFF", "PNG", "WEBP"):
        content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        assert refused(content) == "it.png: holds 3 pictures (frames or pages); one is needed"


def test_a_picture_too_large_keeps_its_name(encoded, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    why = "it.png: not an image that can be read (Image size (81 pixels) exceeds limit of 20 pixels"
    assert refused(encoded(Image.new("RGB", (9, 9)))).startswith(why)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damage_of_all_sorts_keeps_the_name(encoded, tmp_path):
    for form in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "JPEG2000"):
        whole = encoded(Image.effect_noise((32, 32), 90).convert("RGB"), form)
        for cut in (0, 3, 20, len(whole) // 2):
            assert refused(whole[:cut]).startswith("it.png: not an image that can be read (")
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"^a: not an image that can be read \(AVIF, BMP, DIB, GIF, JPEG, .* can\)$"):
        pictures.pixels(Picture(tmp_path / "a.png", "a", 0), "white", None)


def test_a_pointer_of_git_lfs_is_called_that(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    (tmp_path / "a.png").write_bytes(pointer)
    for source in (pointer, tmp_path / "a.png"):
        with pytest.raises(UserError, match=r"^a: a Git LFS pointer in place of the picture; `git lfs pull` fetches"):
            pictures.pixels(Picture(source, "a", 0), "white", None)


def test_no_memory_is_no_damaged_picture(encoded, monkeypatch):
    def full(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(Image, "open", full)
    with pytest.raises(MemoryError):
        read(encoded((0, 0, 0)))


def test_a_format_that_pillow_hands_to_other_programs_is_not_read():
    assert refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n").startswith("it.png: not an image")
