"""A picture as bytes in RGB, whichever way it is stored, and what that took; refused where there is no one way."""

from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from repro.data.image_files.source import Picture
from repro.pipeline.system.errors import UserError

Image.init()
# Not every format that Pillow knows: EPS, say, it hands to another program.
FORMATS = sorted({"PNG", "JPEG", "MPO", "BMP", "DIB", "PPM", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000"} & {*Image.OPEN})
SIXTEEN = ("PNG", "TIFF", "PPM")  # where 16 bits in one channel are from black to white
PLAIN = {  # what Pillow's own conversion gets right, and its name
    "RGB": "",
    "RGBX": "",
    "L": "grey to RGB",
    "1": "1 bit to RGB",
    "P": "palette to RGB",
    "CMYK": "CMYK to RGB, without colour profiles",
    "YCbCr": "YCbCr to RGB",
}
POINTER = b"version https://git-lfs.github.com/spec/"


class Pixels(NamedTuple):
    """A decoded picture, (height, width, 3) uint8, and the conversions that this took."""

    values: np.ndarray
    conversions: list[str]


def pixels(picture: Picture, background: str, side: int | None) -> Pixels:
    """The picture upright, opaque, in 8-bit RGB, resized to `side` × `side` where that is given.

    Raises:
        UserError: no picture, a damaged one, one of several in a file, or one without an agreed black and white.
    """
    source = picture.source
    try:
        if is_pointer(source):
            raise UserError(f"{picture.name}: a Git LFS pointer in place of the picture; `git lfs pull` fetches it")
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as opened:
            return _converted(opened, picture.name, background, side)
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{picture.name}: not an image that can be read ({', '.join(FORMATS)} can)") from error
    except Exception as error:  # Pillow's plugins stumble over damaged files in as many ways as there are damages
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{picture.name}: not an image that can be read ({reason})") from error


def is_pointer(source: Path | bytes) -> bool:
    """Whether Git LFS has left a note there in place of the content."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            source = file.read(len(POINTER))
    return source.startswith(POINTER)


def _converted(opened: Image.Image, name: str, background: str, side: int | None) -> Pixels:
    if opened.format != "MPO" and (count := getattr(opened, "n_frames", 1)) > 1:
        raise UserError(f"{name}: holds {count} pictures (frames or pages); one is needed")
    # `tile` tells how Pillow will unpack it, 16 bits a channel to the upper 8 among others; gone after `load`.
    halved = opened.mode in ("RGB", "RGBA", "LA", "CMYK") and ";16" in str(getattr(opened, "tile", ""))
    turned, done = _orientation(opened)
    opened.load()
    upright = ImageOps.exif_transpose(opened) if turned and _orientation(opened)[0] else opened  # TIFF turns itself
    found, how = _in_rgb(upright, opened, name, background, halved)
    if side:
        found = found.resize((side, side), Image.Resampling.BILINEAR)
    return Pixels(np.asarray(found), [*done, *(["16 bits a channel, the upper 8 kept"] if halved else []), *how])


def _orientation(picture: Image.Image) -> tuple[bool, list[str]]:
    """Whether EXIF says that the picture is to be turned or mirrored, and how to call that."""
    try:
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except Exception:  # as in `pixels`; the picture itself may be whole
        return False, ["EXIF that cannot be read left aside"]
    return turned, ["turned as EXIF says"] if turned else []


def _in_rgb(
    picture: Image.Image, opened: Image.Image, name: str, background: str, halved: bool
) -> tuple[Image.Image, list[str]]:
    mode, kind = picture.mode, opened.format
    keyed = "transparency" in picture.info
    if (mode.startswith("I;16") or (mode == "I" and kind == "PPM")) and kind in SIXTEEN and not keyed:
        return _scaled(picture, opened), ["16 bits scaled to 8"]
    if picture.has_transparency_data and not (keyed and (halved or mode.startswith("I"))):
        picture = picture.convert("RGBA")
        opaque = picture.getchannel("A").getextrema() == (255, 255)
        ground = Image.new("RGBA", picture.size, background)
        how = [] if opaque else [f"transparent pixels put on {background}"]
        return Image.alpha_composite(ground, picture).convert("RGB"), how
    if mode not in PLAIN or keyed:
        raise UserError(f"{name}: {kind} of mode {mode}{' and a colour key' * keyed} has no one 8-bit form; convert it")
    return picture.convert("RGB"), [PLAIN[mode]] if PLAIN[mode] else []


def _scaled(picture: Image.Image, opened: Image.Image) -> Image.Image:
    """Grey levels of as many bits as the file says, black to white; TIFF may say that zero is white."""
    bits, inverted = 16, False
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        bits = opened.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
        inverted = opened.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    levels = np.rint(np.asarray(picture).astype(np.float64) * (255 / (2**bits - 1))).astype(np.uint8)
    return Image.fromarray(255 - levels if inverted else levels).convert("RGB")
