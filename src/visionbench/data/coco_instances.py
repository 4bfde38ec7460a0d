"""COCO's instances: `annotations/instances_<split>.json` beside the folder of images, with polygons or run lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from visionbench.core import Example
from visionbench.datafiles.coco_download import CocoSource
from visionbench.datafiles.coco_files import CocoFiles, make_unlisted, merge_repeated
from visionbench.datafiles.coco_masks import add_masks
from visionbench.datafiles.data_folder import check_counts
from visionbench.registry import register


@register("data", "coco_instances")
@dataclass(frozen=True)
class CocoInstances:
    """Options: the `split`, another annotation file `annotations`, and `samples`, the number of images.

    Crowd regions are dropped. Images without another instance are left out, because they have no prompt.
    """

    root: str
    split: str = "val2017"
    annotations: str | None = None
    """Path below `root`; by default `annotations/instances_<split>.json`."""
    samples: int | None = None

    provides: ClassVar[frozenset[str]] = frozenset({"masks"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)

    def examples(self) -> Sequence[Example]:
        """Return the images by rising id, each with the masks of its instances in the order of the file."""
        files, examples = self._files, []
        regions = files.read_regions()
        for image in files.list_images():
            if image_regions := regions.pop(image.id, None):
                examples.append(add_masks(files.make_example(image), image, image_regions))
        return merge_repeated([*examples, *make_unlisted(regions, files.images)])[: self.samples]

    def classes(self) -> Sequence[str]:
        """Return an empty tuple: masks are predicted without classes."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Return folder, split, number of images and a digest of the annotations."""
        return self._files.identity(len(self.examples()))

    def fetch_source(self) -> CocoSource:
        """Return the source of subsets of COCO for this folder and split."""
        return CocoSource(self.root, self.split)

    @property
    def _files(self) -> CocoFiles:
        file = self.annotations or f"annotations/instances_{self.split}.json"
        return CocoFiles.find("coco_instances", self.root, self.split, file)
