"""COCO's captions and instances of the same pictures: one data set for retrieval, captioning and segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from visionbench.core import Example, FetchProgress
from visionbench.datafiles import annotation_files, coco_download, coco_masks
from visionbench.datafiles.coco_schema import Described
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
        annotation_files.at_least_one(samples=self.samples)

    def examples(self) -> Sequence[Example]:
        """The pictures by rising id, each with its captions and masks in the order of the files."""
        files, other, examples = self._files("instances"), self._files("captions"), []
        instances, captions = files.regions(), other.captions()
        names = {picture.id: picture.name for picture in other.listed()}
        for picture in files.listed():
            said, found = captions.pop(picture.id, Described()), instances.pop(picture.id, None)
            if found:
                one = files.example(picture)
                faults = [*one.faults, *said.faults]
                if picture.id in names and names[picture.id] != picture.name:
                    faults.append(f"its id {picture.id} is {names[picture.id]} in {other.file.name}")
                one = annotation_files.captioned(one.id, one.image, said.values, faults)
                examples.append(coco_masks.masked(one, picture, found))
        strays = annotation_files.unlisted([*instances, *captions], files.pictures)
        return annotation_files.apart([*examples, *strays])[: self.samples]

    def classes(self) -> Sequence[str]:
        """None: it has no labels."""
        return ()

    def doubts(self) -> Mapping[str, str]:
        """A flag for pictures that are left out because they have no instance: recall has fewer candidates then."""
        files = self._files("instances")
        listed, instances = files.listed(), files.regions()
        lacking = sum(picture.id not in instances for picture in listed)
        seen = f"{lacking} of {len(listed)} pictures have no instance and are left out; data=coco_captions takes all"
        return {"pictures_without_instances": seen} if lacking else {}

    def identity(self) -> Mapping[str, str]:
        """Folder, split, number of pictures and a digest of both files of annotations."""
        both = [self._files(kind).file for kind in ("captions", "instances")]
        found = self._files("instances").identity(len(self.examples()))
        return {**found, "annotations_sha256": annotation_files.digest_of_all(both)}

    def is_ready(self) -> bool:
        """Return whether the folder holds COCO's annotations, which are written after all images."""
        return coco_download.is_ready(Path(self.root).expanduser(), self.split)

    def check_fetch(self, samples: int) -> None:
        """Raise ConfigError if this split cannot be fetched into this folder."""
        coco_download.check_fetch(samples, self.split, Path(self.root))

    def fetch(self, samples: int, progress: FetchProgress) -> None:
        """Fetch a subset of COCO into the folder. Raises ConfigError if it cannot be fetched."""
        root = Path(self.root).expanduser().parent
        coco_download.fetch_subset(samples, self.split, root, None, progress)

    def _files(self, kind: str) -> annotation_files.CocoFiles:
        return annotation_files.CocoFiles.find("coco", self.root, self.split, f"annotations/{kind}_{self.split}.json")
