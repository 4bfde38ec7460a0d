"""COCO's instances: `annotations/instances_<split>.json` beside the folder of pictures; polygons and run lengths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any, ClassVar

import numpy as np

from visionbench import annotation
from visionbench.core import Example
from visionbench.registry import register

BEYOND = 1.0
"""Pixels that a polygon may reach over the picture's edge: COCO's own touch it."""


@register("data", "coco_instances")
@dataclass(frozen=True)
class CocoInstances:
    """Options: the `split`, another file of `annotations` in this form, and `samples`, the first so many pictures.

    Crowd regions are dropped, and pictures without any other instance left out: they ask nothing.
    """

    root: str
    split: str = "val2017"
    annotations: str | None = None
    """Below `root`; by default `annotations/instances_<split>.json`."""
    samples: int | None = None

    gives: ClassVar[frozenset[str]] = frozenset({"masks"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        annotation.at_least_one(samples=self.samples)

    def examples(self) -> Sequence[Example]:
        """The pictures by rising id, each with the masks of its instances in the order of the file."""
        files = self._files
        found, pictures = files.read(), files.pictures
        regions: defaultdict[int, list[Any]] = defaultdict(list)
        examples = []
        with annotation.entries_of(files.file):
            for row in sorted(found["annotations"], key=lambda row: row["id"]):
                if not row.get("iscrowd"):
                    regions[row["image_id"]].append(row["segmentation"])
            for picture in sorted(found["images"], key=lambda one: one["id"]):
                if of_one := regions.pop(picture["id"], []):
                    size, name = (picture["height"], picture["width"]), picture["file_name"]
                    faults = tuple(dict.fromkeys(fault for region in of_one for fault in region_faults(region, size)))
                    masks = partial(decoded, of_one, size)
                    examples.append(Example(name, pictures / name, masks=masks, faults=faults))
            strays = [annotation.unlisted(str(id), pictures) for id in sorted(regions)]
        return annotation.apart([*examples, *strays])[: self.samples]

    def classes(self) -> Sequence[str]:
        """None: masks are asked for whatever they show."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Folder, split, number of pictures and a digest of the annotations."""
        return self._files.identity(len(self.examples()))

    @property
    def _files(self) -> annotation.CocoFiles:
        file = self.annotations or f"annotations/instances_{self.split}.json"
        return annotation.CocoFiles.find("coco_instances", self.root, self.split, file)


def decoded(regions: Sequence[Any], size: tuple[int, int]) -> np.ndarray:
    """Masks bool [K, H, W] of regions in any of COCO's three forms."""
    from pycocotools import mask

    masks = [mask.decode(mask.merge(_run_lengths(region, size))).astype(bool) for region in regions]
    return np.stack(masks)


def region_faults(region: Any, size: tuple[int, int]) -> Iterator[str]:
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
