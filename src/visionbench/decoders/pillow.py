"""Pillow, the reference with which other decoders are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from visionbench.registry import register

if TYPE_CHECKING:
    from PIL.Image import Image

    from visionbench.core import LeastSize


@register("decoders", "pillow")
@dataclass(frozen=True)
class Pillow:
    """Pillow decodes every file."""

    is_reference: ClassVar[bool] = True
    reduces: ClassVar[bool] = False

    def why_unavailable(self) -> None:
        """Return None: Pillow is always installed."""

    def decode(self, opened: Image, least: LeastSize | None) -> Image:
        """Return the opened image, which Pillow decodes when its pixels are read."""
        return opened
