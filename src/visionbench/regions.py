"""COCO's regions, polygons and run lengths in three forms: what is wrong with one, and the masks that they mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

import numpy as np

BEYOND = 1.0
"""Pixels that a polygon may reach over the picture's edge: COCO's own touch it."""


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
            if not all(isinstance(number, int | float) and isfinite(number) for number in polygon):
                yield "a polygon whose points are not numbers"
                continue
            xs, ys = polygon[::2], polygon[1::2]
            if min(*xs, *ys) < -BEYOND or max(xs) > width + BEYOND or max(ys) > height + BEYOND:
                yield "a mask outside its picture"
    elif isinstance(region, dict) and {"size", "counts"} <= set(region):
        counts = region["counts"]
        if list(region["size"]) != [height, width]:
            yield f"a mask of {region['size'][1]} × {region['size'][0]} pixels for a picture of {width} × {height}"
        elif not (runs := unpacked(counts) if isinstance(counts, str) else counts) or not isinstance(runs, list):
            yield "run lengths that cannot be read"
        elif not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != height * width:
            yield "run lengths that do not fill the picture"
    else:
        yield "a region that is neither polygons nor run lengths"


def faults_of_all(found: Sequence[Any], size: tuple[int, int]) -> tuple[str, ...]:
    """What is wrong with any of a picture's regions, each fault once."""
    return tuple(dict.fromkeys(fault for region in found for fault in faults(region, size)))


def unpacked(text: str) -> list[int]:
    """Compressed run lengths as numbers; none where they cannot be read. A wrong sum would crash what decodes them.

    Each character holds six bits above '0': five of the number, lowest first, and whether more follow; the last gives
    the sign. From the fourth number on it is the difference to the one before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
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
        return [mask.frPyObjects(region, *size)]
    return [{**region, "counts": region["counts"].encode()}]
