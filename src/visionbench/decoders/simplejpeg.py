"""simplejpeg: libjpeg-turbo without Pillow's conversions, for JPEG in colour or grey."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from visionbench.registry import register

if TYPE_CHECKING:
    from visionbench.core import LeastSize


@register("decoders", "simplejpeg")
@dataclass(frozen=True)
class SimpleJpeg:
    """Files that are no JPEG, or that simplejpeg does not decode without a warning, are left to Pillow."""

    is_reference: ClassVar[bool] = False
    reduces: ClassVar[bool] = False

    def why_unavailable(self) -> str | None:
        """Return that the package is missing."""
        if find_spec("simplejpeg") is None:
            return "simplejpeg not installed; pip install 'visionbench[simplejpeg]'"
        return None

    def decode(self, opened: Image.Image, least: LeastSize | None) -> Image.Image | None:
        """Return the image as stored, or None for a file that is left to Pillow."""
        import simplejpeg

        file = getattr(opened, "fp", None)
        if opened.format != "JPEG" or opened.mode not in ("RGB", "L") or file is None:
            return None
        file.seek(0)
        try:
            # the same inverse transform and upsampling as Pillow
            pixels = simplejpeg.decode_jpeg(file.read(), "RGB", fastdct=False, fastupsample=False, strict=True)
        except ValueError:
            return None
        height, width = pixels.shape[:2]
        return Image.fromarray(pixels) if (width, height) == opened.size else None
