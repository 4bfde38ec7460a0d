"""Decoding: the decoder of a run, with the files that it leaves to Pillow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from visionbench.core import Decoder, Example, LeastSize, Samples
from visionbench.datafiles.images import decode_by

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Decoding:
    """A decoder with its name and the least size of a decoded image. Without a decoder, Pillow decodes."""

    name: str = "pillow"
    decoder: Decoder | None = None
    least: LeastSize | None = None
    left_to_pillow: dict[str, str] = field(default_factory=dict)
    """The ids of the examples that Pillow decoded instead of the decoder, with the format of the file."""

    @property
    def is_reference(self) -> bool:
        """Whether Pillow decodes all of each image."""
        return self.decoder is None or self.decoder.is_reference

    def decode(self, example: Example, encoded: bytes | None = None) -> Image:
        """Return the image of an example like `images.decode_example`. Raises PictureError."""
        decoder = None if self.is_reference else self.decoder
        decoded = decode_by(decoder, example.image, encoded, example.turned, self.least)
        if decoded.left_to_pillow:
            self.left_to_pillow[example.id] = decoded.left_to_pillow
        return decoded.image

    def describe(self, examples: Iterable[Example], used: bool = True) -> Samples:
        """Return a label with the number of these examples that Pillow decoded instead of the decoder.

        If Pillow decoded all, and figures of the case depend on the decoder (`used`), there is the flag
        `decoder_unused`.
        """
        ids = [example.id for example in examples]
        formats = Counter(self.left_to_pillow[id] for id in ids if id in self.left_to_pillow)
        if not formats:
            return Samples()
        listed = ", ".join(f"{count} {name}" for name, count in sorted(formats.items()))
        text = f"Pillow decoded {formats.total()} of {len(ids)} images instead of {self.name} ({listed})"
        unused = used and formats.total() == len(ids)
        return Samples(flags={"decoder_unused": text} if unused else {}, labels={"left_to_pillow": text})
