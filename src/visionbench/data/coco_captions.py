"""COCO's captions: `annotations/captions_<split>.json` beside the folder of images, from cocodataset.org."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from visionbench.core import Example
from visionbench.datafiles.captions import make_captioned
from visionbench.datafiles.coco_download import CocoSource
from visionbench.datafiles.coco_files import CocoFiles, make_unlisted, merge_repeated
from visionbench.datafiles.coco_schema import Annotations
from visionbench.datafiles.data_folder import check_counts
from visionbench.registry import register


@register("data", "coco_captions")
@dataclass(frozen=True)
class CocoCaptions:
    """Options: the `split`, another annotation file `annotations`, and `samples`, the number of images."""

    root: str
    split: str = "val2017"
    annotations: str | None = None
    """Path below `root`; by default `annotations/captions_<split>.json`."""
    samples: int | None = None

    provides: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)

    def examples(self) -> Sequence[Example]:
        """Return the images by rising id, each with all its captions in the order of the file."""
        files, examples = self._files, []
        captions = files.read_captions()
        for image in files.list_images():
            annotations, example = captions.pop(image.id, Annotations()), files.make_example(image)
            problems = (*example.problems, *annotations.problems)
            examples.append(make_captioned(example.id, example.image, annotations.values, problems))
        return merge_repeated([*examples, *make_unlisted(captions, files.images)])[: self.samples]

    def classes(self) -> Sequence[str]:
        """Return an empty tuple: the data set has no labels."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Return folder, split, number of images and a digest of the annotations."""
        return self._files.identity(len(self.examples()))

    def fetch_source(self) -> CocoSource:
        """Return the source of subsets of COCO for this folder and split."""
        return CocoSource(self.root, self.split)

    @property
    def _files(self) -> CocoFiles:
        file = self.annotations or f"annotations/captions_{self.split}.json"
        return CocoFiles.find("coco_captions", self.root, self.split, file)
