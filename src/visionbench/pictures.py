"""From an encoded picture on disk to RGB pixels."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps


class PictureError(Exception):
    """A picture that cannot be decoded; the message names the file and the fault."""


def decode(path: Path) -> Image.Image:
    """The picture in RGB, turned upright as its EXIF says. Raises PictureError naming the file."""
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            return upright.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"{path}: cannot be decoded ({error})") from error
