"""COCO's regions, polygons and run lengths in three forms: what is wrong with one, and the masks that they mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import Any

import numpy as np

from visionbench.core import Example
from visionbench.datafiles.coco_schema import Described, ListedPicture
from visionbench.datafiles.json_file import shown, whole

MOST_BITS = 30
"""The place of a run's highest bits: no picture has so many pixels, and what decodes them has no more room."""
BEYOND = 1.0
"""Pixels that a polygon may reach over the picture's edge: COCO's own touch it."""


def masked(example: Example, picture: ListedPicture, found: Described) -> Example:
    """The example with the masks of its instances, in the size that the annotations give of the picture."""
    size = picture.size
    problems = picture.size_faults if size is None else faults_of_all(found.values, size)
    return replace(
        example,
        faults=tuple(dict.fromkeys([*example.faults, *found.faults, *problems])),
        masks=None if size is None else partial(decoded, found.values, size),
        instances=found.count,
        size=size,
    )


def decoded(regions: Sequence[Any], size: tuple[int, int]) -> np.ndarray:
    """Masks bool [K, H, W] of regions in any of COCO's three forms."""
    from pycocotools import mask

    masks = [mask.decode(mask.merge(_run_lengths(region, size))).astype(bool) for region in regions]
    return np.stack(masks)


def faults(region: Any, size: tuple[int, int]) -> Iterator[str]:
    """What is wrong with a region of a picture of this height and width."""
    height, width = size
    if isinstance(region, list) and region:
        for polygon in region:
            if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
                yield "a polygon of fewer than three points"
                continue
            if not set(map(type, polygon)) <= {int, float} or not _are_finite(polygon):
                yield "a polygon whose points are not numbers"
                continue
            xs, ys = polygon[::2], polygon[1::2]
            if min(*xs, *ys) < -BEYOND or max(xs) > width + BEYOND or max(ys) > height + BEYOND:
                yield "a mask outside its picture"
    elif isinstance(region, dict) and {"size", "counts"} <= set(region):
        counts, sides = region["counts"], _sides(region["size"])
        if sides is None:
            yield f"a mask whose size is {shown(region['size'])}, not a height and a width"
        elif sides != size:
            yield f"a mask of {sides[1]} × {sides[0]} pixels for a picture of {width} × {height}"
        elif not (runs := unpacked(counts) if isinstance(counts, str) else counts) or not isinstance(runs, list):
            yield "run lengths that cannot be read"
        elif not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != height * width:
            yield "run lengths that do not fill the picture"
    else:
        yield f"a region that is neither polygons nor run lengths: {shown(region)}"


def _are_finite(numbers: Sequence[float]) -> bool:
    try:
        return all(map(isfinite, numbers))
    except OverflowError:  # a whole number beyond every float
        return False


def _sides(size: Any) -> tuple[int, int] | None:
    """Height and width of a mask, where they are two numbers."""
    sides = [whole(side) for side in size] if isinstance(size, list) and len(size) == 2 else [None]
    if isinstance(size, list) and any(isinstance(side, str) for side in size):
        return None
    height, width = sides[0], sides[-1]
    return None if height is None or width is None else (height, width)


def faults_of_all(found: Sequence[Any], size: tuple[int, int]) -> tuple[str, ...]:
    """What is wrong with any of a picture's regions, each fault once; and with all of its polygons together."""
    if every := dict.fromkeys(fault for region in found for fault in faults(region, size)):
        return tuple(every)
    polygons = [polygon for region in found if isinstance(region, list) for polygon in region]
    if max(size) > 2 and polygons and all(max(polygon) <= 1 and min(polygon) >= 0 for polygon in polygons):
        return ("polygons that all lie within one pixel: points are pixels, not shares of a picture's sides",)
    return ()


def unpacked(text: str) -> list[int]:
    """Compressed run lengths as numbers; none where they cannot be read. A wrong sum would crash what decodes them.

    Each character holds six bits above '0': five of the number, lowest first, and whether more follow; the last gives
    the sign. From the fourth number on it is the difference to the one before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > MOST_BITS:
            return []
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits >> 4 & 1) << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return [] if shift else runs


def _run_lengths(region: Any, size: tuple[int, int]) -> list[Any]:
    """A region as compressed run lengths, one for each of its polygons."""
    from pycocotools import mask

    if isinstance(region, list):
        found: list[Any] = mask.frPyObjects(region, *size)
        return found
    if isinstance(region["counts"], list):
        return [mask.frPyObjects({"size": list(size), "counts": region["counts"]}, *size)]
    return [{"size": list(size), "counts": region["counts"].encode()}]
