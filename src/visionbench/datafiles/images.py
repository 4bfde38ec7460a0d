"""From an encoded picture on disk to RGB pixels, and from a picture of numbers to masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from visionbench.core import Example, VisionbenchError
from visionbench.datafiles.text_file import is_lfs_pointer

UNDONE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What brings a picture that was turned by an EXIF orientation back to the pixels as stored."""
ON_ITS_SIDE = (5, 6, 7, 8)
"""Orientations that exchange width and height."""


class PictureError(VisionbenchError):
    """An image that cannot be used. The message names the file and the fault; `reason` is the fault alone."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


@dataclass(frozen=True)
class Header:
    """What a picture's file says of it: its size as stored, in pixels, and its EXIF orientation, 1 to 8."""

    height: int
    width: int
    orientation: int

    def size(self, turned: bool) -> tuple[int, int]:
        """Height and width, of the picture turned as its orientation says or as it is stored."""
        swapped = turned and self.orientation in ON_ITS_SIDE
        return (self.width, self.height) if swapped else (self.height, self.width)


def header(path: Path) -> Header:
    """The header of a picture that `check` takes. Raises PictureError."""
    with _faults_named(path), Image.open(path) as picture:
        width, height = picture.size
        turned_by = _orientation(picture)
        tags = getattr(picture, "tag_v2", {})
        if tags.get(ExifTags.Base.Orientation) in ON_ITS_SIDE:  # Pillow gives a TIFF's size as turned
            width, height = height, width
        return Header(height, width, turned_by)


def check(path: Path) -> None:
    """Raise PictureError where a look at the file's size and header shows that it cannot be decoded."""
    with _faults_named(path):
        if not path.is_file():
            raise PictureError(path, "missing")
        if not path.stat().st_size:
            raise PictureError(path, "zero bytes")
        if is_lfs_pointer(path):
            raise PictureError(path, "a Git LFS pointer, not the picture itself: run 'git lfs pull' in its repository")
        with Image.open(path) as picture:
            _refuse_bomb(path, picture)


def picture_of(example: Example, encoded: bytes | None = None) -> Image.Image:
    """An example's picture, decoded and turned as its masks need it. Raises PictureError."""
    return decode(example.image, encoded, example.turned)


def decode(path: Path, encoded: bytes | None = None, turned: bool = True) -> Image.Image:
    """The picture in RGB; of an animation the first frame, on white where transparent.

    It is turned upright as its EXIF orientation says, or with `turned=False` has its pixels as they are stored.
    `encoded` is what the file holds, where that has been read already.

    Raises PictureError naming the file, also where it has more pixels than Pillow takes without a warning. May be
    called by several threads at once.
    """
    with _faults_named(path), Image.open(path if encoded is None else BytesIO(encoded)) as picture:
        _refuse_bomb(path, picture)
        if turned:
            return _rgb(ImageOps.exif_transpose(picture))
        turned_by = _orientation(picture)
        picture.load()
        # Pillow turns a TIFF while it loads it
        return _rgb(picture.transpose(UNDONE[turned_by]) if picture.format == "TIFF" and turned_by > 1 else picture)


def numbered_masks(path: Path) -> np.ndarray:
    """The masks bool [K, H, W] in a single-channel picture of numbers: 0 is background, k belongs to the k-th.

    Raises PictureError.
    """
    with _faults_named(path), Image.open(path) as picture:
        numbers = np.asarray(picture)
    masks: np.ndarray = numbers[None] == np.arange(1, int(numbers.max()) + 1)[:, None, None]
    return masks


def _orientation(picture: Image.Image) -> int:
    """1, as stored, also where the EXIF data have no such orientation."""
    found = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return found if found in UNDONE else 1


def _refuse_bomb(path: Path, picture: Image.Image) -> None:
    """Pillow itself only warns up to twice its limit, and how warnings are treated is not a thread's own to set."""
    pixels = picture.width * picture.height
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise PictureError(path, f"{pixels:,} pixels, more than {Image.MAX_IMAGE_PIXELS:,}: a decompression bomb?")


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # damaged files end Pillow's readers in errors of many kinds, struct.error say
        said = str(error).replace(f"'{path}'", "it")
        raise PictureError(path, f"cannot be decoded ({said})") from error


def _rgb(picture: Image.Image) -> Image.Image:
    """Eight bits a channel. Pillow alone would clip 16 bits at 255 and uncover the colours below transparency."""
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise ValueError("32 bits a pixel, and nothing tells which value is white")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")
