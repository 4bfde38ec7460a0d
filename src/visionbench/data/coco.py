"""COCO's captions and instances of the same pictures: one data set for retrieval, captioning and segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from visionbench import annotation, regions
from visionbench.core import Example
from visionbench.registry import register


@register("data", "coco")
@dataclass(frozen=True)
class Coco:
    """Options: the `split`, and `samples`, the first so many pictures.

    Crowd regions are dropped, and pictures without any other instance left out.
    """

    root: str
    split: str = "val2017"
    samples: int | None = None

    gives: ClassVar[frozenset[str]] = frozenset({"captions", "masks"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        annotation.at_least_one(samples=self.samples)

    def examples(self) -> Sequence[Example]:
        """The pictures by rising id, each with its captions and masks in the order of the files."""
        files, examples = self._files("instances"), []
        instances, captions = files.regions(), self._files("captions").captions()
        with annotation.entries_of(files.file):
            for picture in files.listed():
                said, found = captions.pop(picture["id"], []), instances.pop(picture["id"], [])
                if found:
                    size, name = (picture["height"], picture["width"]), picture["file_name"]
                    example = annotation.captioned(
                        name, files.pictures / name, said, regions.faults_of_all(found, size)
                    )
                    masks = partial(regions.decoded, found, size)
                    examples.append(replace(example, masks=masks, instances=len(found)))
        strays = [annotation.unlisted(str(id), files.pictures) for id in sorted({*instances, *captions})]
        return annotation.apart([*examples, *strays])[: self.samples]

    def classes(self) -> Sequence[str]:
        """None: it has no labels."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Folder, split, number of pictures and a digest of both files of annotations."""
        both = [self._files(kind).file for kind in ("captions", "instances")]
        found = self._files("instances").identity(len(self.examples()))
        return {**found, "annotations_sha256": annotation.digest_of_all(both)}

    def _files(self, kind: str) -> annotation.CocoFiles:
        return annotation.CocoFiles.find("coco", self.root, self.split, f"annotations/{kind}_{self.split}.json")
