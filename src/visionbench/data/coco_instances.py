"""COCO's instances: `annotations/instances_<split>.json` beside the folder of images, with masks and boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from visionbench.core import DataClass, Example
from visionbench.datafiles.coco_boxes import add_boxes
from visionbench.datafiles.coco_download import CocoSource
from visionbench.datafiles.coco_files import CocoFiles, make_unlisted, merge_repeated
from visionbench.datafiles.coco_masks import add_masks
from visionbench.datafiles.coco_schema import Annotations
from visionbench.datafiles.data_folder import check_counts
from visionbench.examples.class_mapping import find_targets, parse_mapping
from visionbench.registry import register


@register("data", "coco_instances")
@dataclass(frozen=True)
class CocoInstances:
    """Options: the `split`, another annotation file `annotations`, `samples`, the number of images, and `classes`, the
    model's class for a category, by name or index.

    Masks are polygons or run lengths. Crowd regions have no mask, and images without another instance are left out,
    because they have no prompt. For a model that predicts boxes, the examples have boxes instead of masks, crowd
    regions are kept, and all listed images are used.
    """

    root: str
    split: str = "val2017"
    annotations: str | None = None
    """Path below `root`; by default `annotations/instances_<split>.json`."""
    samples: int | None = None
    class_mapping: Any = field(default=None, metadata={"option": "classes"})

    provides: ClassVar[frozenset[str]] = frozenset({"masks", "boxes"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)
        parse_mapping(self.class_mapping)

    def examples(self) -> Sequence[Example]:
        """Return the images by rising id, each with the masks of its instances in the order of the file."""
        files, examples = self._files, []
        regions = files.read_regions()
        for image in files.list_images():
            if image_regions := regions.pop(image.id, None):
                examples.append(add_masks(files.make_example(image), image, image_regions))
        return merge_repeated([*examples, *make_unlisted(regions, files.images)])[: self.samples]

    def for_predictions(self, columns: frozenset[str]) -> CocoInstances:
        """Return the data set with boxes and with images without instances, for a model that predicts boxes."""
        if "boxes" not in columns:
            return self
        return CocoBoxes(**{option.name: getattr(self, option.name) for option in fields(self)})

    def classes(self) -> Sequence[str]:
        """Return an empty tuple: images have no class."""
        return ()

    def box_classes(self) -> Sequence[DataClass]:
        """Return the categories by rising id, each with the model's class that the config gives."""
        names = list(self._files.read_categories().names.values())
        targets = find_targets(self.class_mapping, names)
        return [DataClass(name, target=targets.get(name)) for name in names]

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


@dataclass(frozen=True)
class CocoBoxes(CocoInstances):
    """The data set for models that predict boxes."""

    def examples(self) -> Sequence[Example]:
        """Return all listed images by rising id, each with the boxes of its instances and its crowd regions."""
        files, examples = self._files, []
        categories, instances = files.read_categories(), files.read_instances()
        for image in files.list_images():
            image_instances = instances.pop(image.id, Annotations())
            examples.append(add_boxes(files.make_example(image), image, image_instances, categories))
        return merge_repeated([*examples, *make_unlisted(instances, files.images)])[: self.samples]
