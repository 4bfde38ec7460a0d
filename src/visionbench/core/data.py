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
class Question:
    """A question about an image, with the answers of people. VQAv2 has ten answers for each question."""

    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class ArrayAnnotation:
    """An annotation whose value is an array in the size of the image."""

    field: str
    """The field of `Example` that reads it, and of `Picture` that holds it."""
    noun: str
    """Its name in messages, after "its"."""
    verb: str
    """The verb that fits the noun."""


ARRAYS = {
    "masks": ArrayAnnotation("masks", "masks", "are"),
    "class_map": ArrayAnnotation("class_map", "class map", "is"),
    "depth": ArrayAnnotation("depth_map", "depth map", "is"),
}
"""The annotations that are arrays, by their name in `DataSet.provides`. The last two axes are height and width."""
IGNORED = -1
"""The value of a pixel of a class map that does not count."""


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
    questions: tuple[Question, ...] = ()
    """The questions about it."""
    problems: tuple[str, ...] = ()
    """The problems of its annotations. An example with problems is refused or left out, never corrected."""
    instances: int = 0
    """The number of masks that `masks` returns."""
    boxes: tuple[Box, ...] = ()
    """The boxes of its objects, and of its crowd regions."""
    class_map: Callable[[], np.ndarray] | None = field(default=None, compare=False)
    """Read the class of each pixel: int [H, W] in the size of the image, an index into the data set's `map_classes()`,
    or IGNORED for a pixel that does not count."""
    depth_map: Callable[[], np.ndarray] | None = field(default=None, compare=False)
    """Read the depth of each pixel in metres: float [H, W] in the size of the image. 0 and NaN mean not measured."""
    size: tuple[int, int] | None = None
    """Height and width of its masks, boxes and maps, if the annotations give them."""
    exif: str | None = None
    """The pixels that its masks, boxes and maps were drawn on, if `data.exif` names them: `stored`, or `turned` as EXIF
    describes."""

    @property
    def drawn(self) -> bool:
        """Whether it has annotations in pixels of its image."""
        return self.has_arrays or bool(self.boxes) or self.size is not None

    @property
    def turned(self) -> bool:
        """Whether its image is rotated by its EXIF orientation."""
        return self.exif != "stored"

    @property
    def has_arrays(self) -> bool:
        """Whether it has annotations that are arrays in the size of its image."""
        return any(getattr(self, array.field) is not None for array in ARRAYS.values())


@dataclass(frozen=True)
class Picture:
    """An example with its decoded image, and with the arrays of its annotations that a metric needs."""

    example: Example
    image: Image
    masks: np.ndarray | None = None
    """bool [K, H, W]."""
    class_map: np.ndarray | None = None
    """int [H, W]."""
    depth_map: np.ndarray | None = None
    """float [H, W]."""


@dataclass(frozen=True)
class DataClass:
    """A class of a data set, with the facts that identify it among the classes of a model."""

    name: str
    """One of the data set's `classes()`."""
    number: str = ""
    """Its WordNet number, such as n01440764, or empty."""
    target: str | int | None = None
    """The model's class that the config assigns to it, by name or by index."""
