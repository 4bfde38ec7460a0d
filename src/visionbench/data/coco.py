"""COCO's captions and instances of the same images: one data set for retrieval, captioning and segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from visionbench.core import Example
from visionbench.datafiles.captions import make_captioned
from visionbench.datafiles.coco_download import CocoSource
from visionbench.datafiles.coco_files import CocoFiles, make_unlisted, merge_repeated
from visionbench.datafiles.coco_masks import add_masks
from visionbench.datafiles.coco_schema import Annotations
from visionbench.datafiles.data_folder import check_counts, digest_files
from visionbench.registry import register


@register("data", "coco")
@dataclass(frozen=True)
class Coco:
    """Options: the `split`, and `samples`, the number of images, from the first.

    Crowd regions are dropped. Images without another instance are left out.
    """

    root: str
    split: str = "val2017"
    samples: int | None = None

    provides: ClassVar[frozenset[str]] = frozenset({"captions", "masks"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)

    def examples(self) -> Sequence[Example]:
        """Return the images by rising id, each with its captions and masks in the order of the files."""
        files, caption_files, examples = self._files("instances"), self._files("captions"), []
        regions, captions = files.read_regions(), caption_files.read_captions()
        names = {image.id: image.name for image in caption_files.list_images()}
        for image in files.list_images():
            image_captions, image_regions = captions.pop(image.id, Annotations()), regions.pop(image.id, None)
            if image_regions:
                example = files.make_example(image)
                problems = [*example.problems, *image_captions.problems]
                if image.id in names and names[image.id] != image.name:
                    problems.append(f"its id {image.id} is {names[image.id]} in {caption_files.file.name}")
                example = make_captioned(example.id, example.image, image_captions.values, problems)
                examples.append(add_masks(example, image, image_regions))
        unlisted = make_unlisted([*regions, *captions], files.images)
        return merge_repeated([*examples, *unlisted])[: self.samples]

    def classes(self) -> Sequence[str]:
        """Return an empty tuple: the data set has no labels."""
        return ()

    def warnings(self) -> Mapping[str, str]:
        """Return a flag for images that are left out because they have no instance: recall has fewer candidates."""
        files = self._files("instances")
        images, regions = files.list_images(), files.read_regions()
        without = sum(image.id not in regions for image in images)
        flag = f"{without} of {len(images)} images have no instance and are left out; data=coco_captions uses all"
        return {"pictures_without_instances": flag} if without else {}

    def identity(self) -> Mapping[str, str]:
        """Return folder, split, number of images and a digest of both annotation files."""
        both = [self._files(kind).file for kind in ("captions", "instances")]
        identity = self._files("instances").identity(len(self.examples()))
        return {**identity, "annotations_sha256": digest_files(both)}

    def fetch_source(self) -> CocoSource:
        """Return the source of subsets of COCO for this folder and split."""
        return CocoSource(self.root, self.split)

    def _files(self, kind: str) -> CocoFiles:
        return CocoFiles.find("coco", self.root, self.split, f"annotations/{kind}_{self.split}.json")
