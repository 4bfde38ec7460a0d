"""From an encoded picture on disk to RGB pixels."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


class PictureError(Exception):
    """A picture that cannot be decoded; the message names the file and the fault."""


def decode(path: Path) -> Image.Image:
    """The picture in RGB, turned upright as its EXIF says; of an animation the first frame, on white where transparent.

    Raises PictureError naming the file, also where it has more pixels than Pillow takes without a warning.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return _rgb(ImageOps.exif_transpose(picture))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"{path}: cannot be decoded ({error})") from error


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
