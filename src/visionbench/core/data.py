"""The values of the data: examples, decoded images, inputs, and the classes of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

Inputs = Mapping[str, Any]
"""One preprocessed batch: names to tensors whose first axis is the batch."""

Row = Mapping[str, Any]
"""One image's columns, predicted or from the data set: names to a number, a string, a list of them, or an array."""


@dataclass(frozen=True)
class Box:
    """The box of an annotated object, in pixels of the image. `x` and `y` are its left and upper edge."""

    name: str
    """The class of the object."""
    x: float
    y: float
    width: float
    height: float
    area: float
    """The area of the object, by which COCO calls it small, medium or large."""
    crowd: bool = False
    """Whether the box is a region of many objects, which COCO's metrics ignore."""


@dataclass(frozen=True)
class Example:
    """One example of a data set: the path of its image, and its annotations."""

    id: str
    image: Path
    captions: tuple[str, ...] = ()
    label: str | None = None
    """The name of its class, which is one of the data set's `classes()`."""
    masks: Callable[[], np.ndarray] | None = field(default=None, compare=False)
    """Read the masks of its instances: bool [K, H, W] in the size of the image, without crowd regions."""
    problems: tuple[str, ...] = ()
    """The problems of its annotations. An example with problems is refused or left out, never corrected."""
    instances: int = 0
    """The number of masks that `masks` returns."""
    boxes: tuple[Box, ...] = ()
    """The boxes of its objects, and of its crowd regions."""
    size: tuple[int, int] | None = None
    """Height and width of its masks and boxes, if the annotations give them."""
    exif: str | None = None
    """The pixels that its masks and boxes were drawn on, if `data.exif` names them: `stored`, or `turned` as EXIF
    describes."""

    @property
    def drawn(self) -> bool:
        """Whether it has annotations in pixels of the image."""
        return self.masks is not None or bool(self.boxes) or self.size is not None

    @property
    def turned(self) -> bool:
        """Whether its image is rotated by its EXIF orientation."""
        return self.exif != "stored"


@dataclass(frozen=True)
class Picture:
    """An example with its decoded image, and with its masks if a metric needs them."""

    example: Example
    image: Image
    masks: np.ndarray | None = None
    """bool [K, H, W]."""


@dataclass(frozen=True)
class DataClass:
    """A class of a data set, with the facts that identify it among the classes of a model."""

    name: str
    """One of the data set's `classes()`."""
    number: str = ""
    """Its WordNet number, such as n01440764, or empty."""
    target: str | int | None = None
    """The model's class that the config assigns to it, by name or by index."""
