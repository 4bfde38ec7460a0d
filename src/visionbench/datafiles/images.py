"""Decode image files to RGB pixels, read their headers, and read masks from images of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from visionbench.core import Decoder, Example, LeastSize, VisionbenchError
from visionbench.datafiles.text_file import is_lfs_pointer

INVERSE_ROTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation to the operation that restores the stored pixels of an image that was turned by it."""
ROTATIONS = {
    **INVERSE_ROTATIONS,
    6: Image.Transpose.ROTATE_270,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to the operation that turns an image upright, as in `ImageOps.exif_transpose`."""
SIDEWAYS = (5, 6, 7, 8)
"""Orientations that exchange width and height."""


class PictureError(VisionbenchError):
    """An image that cannot be used. The message names the file and the problem, `reason` only the problem."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


@dataclass(frozen=True)
class Header:
    """The header of an image file: its stored size in pixels, and its EXIF orientation, 1 to 8."""

    height: int
    width: int
    orientation: int

    def size(self, turned: bool) -> tuple[int, int]:
        """Return height and width of the image, turned by its orientation or as stored."""
        swapped = turned and self.orientation in SIDEWAYS
        return (self.width, self.height) if swapped else (self.height, self.width)


def read_header(path: Path) -> Header:
    """Return the header of an image that passes `check_file`. Raises PictureError."""
    with _name_errors(path), Image.open(path) as picture:
        width, height = picture.size
        orientation = _read_orientation(picture)
        tags = getattr(picture, "tag_v2", {})
        if tags.get(ExifTags.Base.Orientation) in SIDEWAYS:  # Pillow gives the size of a TIFF as turned
            width, height = height, width
        return Header(height, width, orientation)


def check_file(path: Path) -> None:
    """Raise PictureError if the size and header of a file show that it cannot be decoded."""
    with _name_errors(path):
        if not path.is_file():
            raise PictureError(path, "missing")
        if not path.stat().st_size:
            raise PictureError(path, "zero bytes")
        if is_lfs_pointer(path):
            raise PictureError(path, "a Git LFS pointer, not the image itself: run 'git lfs pull' in its repository")
        with Image.open(path) as picture:
            _check_pixel_count(path, picture)


def decode_example(example: Example, encoded: bytes | None = None) -> Image.Image:
    """Return an example's image, decoded and turned as its masks require. Raises PictureError."""
    return decode(example.image, encoded, example.turned)


def decode(path: Path, encoded: bytes | None = None, turned: bool = True) -> Image.Image:
    """Return an image in RGB, decoded by Pillow: the first frame of an animation, on white if it has transparency.

    With `turned`, the image is turned upright by its EXIF orientation; otherwise its pixels are as stored. `encoded`
    is the content of the file, if it was read already. Raises PictureError, also for more pixels than Pillow accepts
    without a warning. Can be called from several threads.
    """
    return decode_by(None, path, encoded, turned).image


@dataclass(frozen=True)
class Decoded:
    """An image in RGB, and the format of its file if the decoder left it to Pillow."""

    image: Image.Image
    left_to_pillow: str = ""


def decode_by(
    decoder: Decoder | None,
    path: Path,
    encoded: bytes | None = None,
    turned: bool = True,
    least: LeastSize | None = None,
) -> Decoded:
    """Return an image like `decode`, with its pixels from a decoder. None is Pillow, which also decodes the files that
    the decoder leaves to it. `least` is for upright images."""
    with _name_errors(path), Image.open(path if encoded is None else BytesIO(encoded)) as picture:
        _check_pixel_count(path, picture)
        left_to_pillow = ""
        if decoder is not None:
            orientation = _read_orientation(picture)
            decoded = decoder.decode(picture, _as_stored(least, orientation) if turned else least)
            if decoded is None:
                left_to_pillow = _describe_format(picture)
            elif decoded is not picture:
                rotate = turned and orientation > 1
                return Decoded(decoded.transpose(ROTATIONS[orientation]) if rotate else decoded)
        if turned:
            return Decoded(_to_rgb(ImageOps.exif_transpose(picture)), left_to_pillow)
        orientation = _read_orientation(picture)
        picture.load()
        # Pillow turns a TIFF while loading it
        restore = picture.format == "TIFF" and orientation > 1
        stored = picture.transpose(INVERSE_ROTATIONS[orientation]) if restore else picture
        return Decoded(_to_rgb(stored), left_to_pillow)


def read_numbered_masks(path: Path) -> np.ndarray:
    """Return the masks bool [K, H, W] in a single-channel image of numbers: 0 is background, k is the k-th mask.

    Raises PictureError.
    """
    numbers = read_numbers(path)
    masks: np.ndarray = numbers[None] == np.arange(1, int(numbers.max()) + 1)[:, None, None]
    return masks


def read_numbers(path: Path) -> np.ndarray:
    """Return the numbers [H, W] of a single-channel image, as stored. Raises PictureError."""
    with _name_errors(path), Image.open(path) as picture:
        _check_pixel_count(path, picture)
        return np.asarray(picture)


def read_stored(path: Path) -> tuple[str, tuple[int, int]]:
    """Return Pillow's mode of an image file, and its height and width as stored. Raises PictureError."""
    with _name_errors(path), Image.open(path) as picture:
        return picture.mode, (picture.height, picture.width)


def _read_orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, or 1 (as stored) if it is missing or not valid."""
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in INVERSE_ROTATIONS else 1


def _as_stored(least: LeastSize | None, orientation: int) -> LeastSize | None:
    """Return the function of a least size for the stored image instead of the upright image."""
    if least is None or orientation not in SIDEWAYS:
        return least

    def swapped(width: int, height: int) -> tuple[int, int]:
        least_height, least_width = least(height, width)
        return least_width, least_height

    return swapped


def _describe_format(picture: Image.Image) -> str:
    """Return the format of a file, and its mode if a decoder may leave it to Pillow because of the mode."""
    usual = picture.format != "JPEG" or picture.mode in ("RGB", "L")
    return str(picture.format) if usual else f"{picture.format} in {picture.mode}"


def _check_pixel_count(path: Path, picture: Image.Image) -> None:
    """Raise PictureError for too many pixels. Up to twice its limit, Pillow only warns, and warning filters are global
    to all threads."""
    pixels = picture.width * picture.height
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise PictureError(path, f"{pixels:,} pixels, more than {Image.MAX_IMAGE_PIXELS:,}: a decompression bomb?")


@contextmanager
def _name_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # Pillow raises errors of many types for damaged files, such as struct.error
        reason = str(error).replace(f"'{path}'", "it")
        raise PictureError(path, f"cannot be decoded ({reason})") from error


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Return an image with eight bits per channel. Pillow's conversion would clip 16 bits at 255 and reveal colours
    behind transparency."""
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise ValueError("32 bits per pixel, without a definition of white")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")
