"""Pillow's draft mode: a JPEG is decoded at 1/1, 1/2, 1/4 or 1/8 of its size, which is faster for large images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from visionbench.registry import register

if TYPE_CHECKING:
    from PIL.Image import Image

    from visionbench.core import LeastSize


@register("decoders", "pillow_draft")
@dataclass(frozen=True)
class PillowDraft:
    """A JPEG is decoded at the smallest scale that is at least the size to which the model's processor resizes it."""

    is_reference: ClassVar[bool] = False
    reduces: ClassVar[bool] = True

    def why_unavailable(self) -> None:
        """Return None: Pillow is always installed."""

    def decode(self, opened: Image, least: LeastSize | None) -> Image | None:
        """Return the image at its scale, or None if the file is no JPEG."""
        if opened.format != "JPEG" or least is None:
            return None
        opened.draft(None, least(*opened.size))
        return opened
