"""Class maps: files with one channel whose numbers are the classes of the pixels, and the rules for their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionbench.core import IGNORED
from visionbench.datafiles.images import PictureError, read_numbers, read_stored

MODES = ("1", "L", "P", "I;16", "I;16B", "I")
"""Pillow's modes of one channel. A palette (P) only gives the colours in which a program shows the numbers."""


@dataclass(frozen=True)
class MapRule:
    """The rule by which the numbers of a file become classes."""

    classes: int
    """The number of classes."""
    ignore_index: int = 255
    """The number of pixels that do not count."""
    reduce_zero_label: bool = False
    """Whether 0 also means a pixel that does not count, and class k is stored as k + 1, as in ADE20K."""

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """Return the classes of the pixels. Raises ValueError for a number that is no class, or without any class."""
        numbers = numbers.astype(np.int64)
        ignored = numbers == self.ignore_index
        classes = numbers - 1 if self.reduce_zero_label else numbers
        if self.reduce_zero_label:
            ignored |= numbers == 0
        wrong = ~ignored & ((classes < 0) | (classes >= self.classes))
        if wrong.any():
            first = int(numbers[wrong].min())
            last = self.classes if self.reduce_zero_label else self.classes - 1
            raise ValueError(
                f"has {int(wrong.sum())} pixels with a number that is no class, such as {first}; the "
                f"{self.classes} classes are numbered {last - self.classes + 1} to {last}, and ignore_index is "
                f"{self.ignore_index}"
            )
        if ignored.all():
            raise ValueError("has no pixel that counts: all are ignored")
        return np.where(ignored, IGNORED, classes).astype(np.int32)


def find_problem(path: Path, name: str) -> tuple[tuple[int, int] | None, str | None]:
    """Return height and width of a class map, and its problem, as far as the header of the file shows them.

    `name` is the name of the file in the problem.
    """
    if not path.is_file():
        return None, f"its class map {name} is missing"
    try:
        mode, size = read_stored(path)
    except PictureError as error:
        return None, f"its class map {name}: {error.reason}"
    if mode not in MODES:
        return size, f"its class map {name} has the mode {mode}: it must have one channel with a number for each pixel"
    return size, None


def read_class_map(path: Path, name: str, rule: MapRule) -> np.ndarray:
    """Return the class of each pixel, int [H, W], IGNORED if the pixel does not count. Raises PictureError.

    `name` is the name of the file in messages.
    """
    try:
        return rule.apply(read_numbers(path))
    except PictureError as error:
        raise PictureError(path, f"its class map {name}: {error.reason}") from error
    except ValueError as error:
        raise PictureError(path, f"its class map {name} {error}") from error


def read_mapped(path: Path, classes: Mapping[int, int]) -> np.ndarray:
    """Return a class map int [H, W] from a file of numbers, each of which has its class in `classes`."""
    table = np.full(max(classes) + 1, IGNORED, np.int32)
    table[list(classes)] = list(classes.values())
    mapped: np.ndarray = table[read_numbers(path)]
    return mapped
