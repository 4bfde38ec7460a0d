"""COCO's regions, polygons and run lengths in three forms: their problems, and their masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import Any

import numpy as np

from visionbench.core import Example
from visionbench.datafiles.coco_schema import Annotations, ListedImage
from visionbench.datafiles.json_file import parse_integer, show

MAX_BITS = 30
"""Largest number of bits of a run that can be decoded. No image has more pixels."""
TOLERANCE = 1.0
"""Number of pixels by which a polygon may exceed the image. COCO's own polygons touch the edge."""


def add_masks(example: Example, image: ListedImage, regions: Annotations) -> Example:
    """Return the example with the masks of its instances, in the size that the annotations give."""
    size = image.size
    problems = image.size_problems if size is None else find_all_problems(regions.values, size)
    return replace(
        example,
        problems=tuple(dict.fromkeys([*example.problems, *regions.problems, *problems])),
        masks=None if size is None else partial(decode_masks, regions.values, size),
        instances=regions.count,
        size=size,
    )


def decode_masks(regions: Sequence[Any], size: tuple[int, int]) -> np.ndarray:
    """Return the masks bool [K, H, W] of regions in any of COCO's three forms."""
    from pycocotools import mask

    masks = [mask.decode(mask.merge(_encode_region(region, size))).astype(bool) for region in regions]
    return np.stack(masks)


def find_all_problems(regions: Sequence[Any], size: tuple[int, int]) -> tuple[str, ...]:
    """Return the problems of an image's regions, each once, else the problem of all its polygons together."""
    if problems := dict.fromkeys(problem for region in regions for problem in find_problems(region, size)):
        return tuple(problems)
    polygons = [polygon for region in regions if isinstance(region, list) for polygon in region]
    if max(size) > 2 and polygons and all(max(polygon) <= 1 and min(polygon) >= 0 for polygon in polygons):
        return ("polygons that are all within one pixel: points are pixels, not fractions of the image's sides",)
    return ()


def find_problems(region: Any, size: tuple[int, int]) -> Iterator[str]:
    """Yield the problems of a region in an image of this height and width."""
    if isinstance(region, list) and region:
        for polygon in region:
            if problem := _find_polygon_problem(polygon, size):
                yield problem
    elif isinstance(region, dict) and {"size", "counts"} <= set(region):
        if problem := _find_runs_problem(region["counts"], region["size"], size):
            yield problem
    else:
        yield f"a region that is neither polygons nor run lengths: {show(region)}"


def _find_polygon_problem(polygon: Any, size: tuple[int, int]) -> str | None:
    height, width = size
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        return "a polygon of fewer than three points"
    if not set(map(type, polygon)) <= {int, float} or not _are_finite(polygon):
        return "a polygon whose points are not numbers"
    xs, ys = polygon[::2], polygon[1::2]
    if min(*xs, *ys) < -TOLERANCE or max(xs) > width + TOLERANCE or max(ys) > height + TOLERANCE:
        return "a mask outside its image"
    return None


def _find_runs_problem(counts: Any, mask_size: Any, size: tuple[int, int]) -> str | None:
    height, width = size
    sides = _parse_size(mask_size)
    if sides is None:
        return f"a mask whose size is {show(mask_size)}, not a height and a width"
    if sides != size:
        return f"a mask of {sides[1]} × {sides[0]} pixels for an image of {width} × {height}"
    runs = decompress_runs(counts) if isinstance(counts, str) else counts
    if not runs or not isinstance(runs, list):
        return "run lengths that cannot be read"
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != height * width:
        return "run lengths that do not fill the image"
    return None


def _are_finite(numbers: Sequence[float]) -> bool:
    try:
        return all(map(isfinite, numbers))
    except OverflowError:  # a whole number larger than every float
        return False


def _parse_size(size: Any) -> tuple[int, int] | None:
    """Return height and width of a mask, or None if they are not two numbers."""
    if not isinstance(size, list) or len(size) != 2 or any(isinstance(side, str) for side in size):
        return None
    height, width = map(parse_integer, size)
    return None if height is None or width is None else (height, width)


def decompress_runs(text: str) -> list[int]:
    """Return compressed run lengths as numbers, or an empty list if they cannot be read.

    Each character contains six bits above '0': five of the number, lowest first, and a bit that is set if more follow;
    the last character gives the sign. From the fourth number on, it is the difference to the number two before. The
    runs are checked here because pycocotools crashes on runs with a wrong sum.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > MAX_BITS:
            return []
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits >> 4 & 1) << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return [] if shift else runs


def _encode_region(region: Any, size: tuple[int, int]) -> list[Any]:
    """Return a region as compressed run lengths, one for each of its polygons."""
    from pycocotools import mask

    if isinstance(region, list):
        encoded: list[Any] = mask.frPyObjects(region, *size)
        return encoded
    if isinstance(region["counts"], list):
        return [mask.frPyObjects({"size": list(size), "counts": region["counts"]}, *size)]
    return [{"size": list(size), "counts": region["counts"].encode()}]
