"""Encode an image as it is sent: its size, its format, its quality."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from visionbench.core import EncodedImage

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
"""The formats, each with its media type."""


def encode(image: Image, kind: str, quality: int, size: int | None) -> EncodedImage:
    """Encode an image in RGB. `size` is the longest side in pixels; a smaller image is not enlarged."""
    from PIL.Image import Resampling

    if size is not None and max(image.size) > size:
        scale = size / max(image.size)
        image = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Resampling.BICUBIC
        )
    buffer = BytesIO()
    options = {} if kind == "png" else {"quality": quality}
    image.convert("RGB").save(buffer, kind, **options)
    return EncodedImage(FORMATS[kind], buffer.getvalue())
