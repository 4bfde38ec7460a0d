"""From an encoded picture on disk to RGB pixels, and from a picture of numbers to masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


class PictureError(Exception):
    """A picture that cannot be used; the message names the file and the fault, `reason` the fault alone."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def check(path: Path) -> None:
    """Raise PictureError where a look at the file's size and header shows that it cannot be decoded."""
    with _faults_named(path):
        if not path.is_file():
            raise PictureError(path, "missing")
        if not path.stat().st_size:
            raise PictureError(path, "zero bytes")
        with Image.open(path) as picture:
            _refuse_bomb(path, picture)


def decode(path: Path, encoded: bytes | None = None) -> Image.Image:
    """The picture in RGB, turned upright as its EXIF says; of an animation the first frame, on white where transparent.

    `encoded` is what the file holds, where that has been read already.

    Raises PictureError naming the file, also where it has more pixels than Pillow takes without a warning. May be
    called by several threads at once.
    """
    with _faults_named(path), Image.open(path if encoded is None else BytesIO(encoded)) as picture:
        _refuse_bomb(path, picture)
        return _rgb(ImageOps.exif_transpose(picture))


def numbered_masks(path: Path) -> np.ndarray:
    """The masks bool [K, H, W] in a single-channel picture of numbers: 0 is background, k belongs to the k-th.

    Raises PictureError.
    """
    with _faults_named(path), Image.open(path) as picture:
        numbers = np.asarray(picture)
    masks: np.ndarray = numbers[None] == np.arange(1, int(numbers.max()) + 1)[:, None, None]
    return masks


def _refuse_bomb(path: Path, picture: Image.Image) -> None:
    """Pillow itself only warns up to twice its limit, and how warnings are treated is not a thread's own to set."""
    pixels = picture.width * picture.height
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise PictureError(path, f"{pixels:,} pixels, more than {Image.MAX_IMAGE_PIXELS:,}: a decompression bomb?")


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
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
