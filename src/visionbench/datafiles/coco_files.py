"""COCO's annotation files with their folders of images, and the examples that they describe."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError, Example
from visionbench.datafiles import coco_schema, json_file
from visionbench.datafiles.coco_boxes import Categories, parse_categories
from visionbench.datafiles.coco_schema import Annotations, Id, ListedImage
from visionbench.datafiles.data_folder import digest_file, find_file, find_folder, locate_image, spell_name
from visionbench.datafiles.messages import escape_unprintable


@dataclass(frozen=True)
class CocoFiles:
    """One of COCO's annotation files, and the folder of its images."""

    name: str
    """The name of the data set."""
    root: Path
    file: Path
    images: Path
    split: str

    @classmethod
    def find(cls, name: str, root: str, split: str, file: str) -> CocoFiles:
        """Return `file` below `root`, and the images in `<split>`, `images/<split>` or `images`. Raises ConfigError."""
        base, layout = find_folder(root, name), f"{file} and a folder {split} of images"
        annotations = find_file(base, [file], layout)
        return cls(name, base, annotations, find_file(base, [split, f"images/{split}", "images"], layout), split)

    def list_images(self) -> list[ListedImage]:
        """Return the listed images by rising id. Raises ConfigError if their ids are missing or not unique."""
        return _read_images(self.file, json_file.file_version(self.file))

    def read_captions(self) -> dict[Id, Annotations]:
        """Return, by image id, the captions in the order of their own ids. Raises ConfigError."""
        return dict(_read_annotations(self.file, json_file.file_version(self.file), "caption", False))

    def read_regions(self) -> dict[Id, Annotations]:
        """Return, by image id, the regions of the instances in the order of their own ids, without crowd regions.

        Raises ConfigError.
        """
        return dict(_read_annotations(self.file, json_file.file_version(self.file), "segmentation", True))

    def read_instances(self) -> dict[Id, Annotations]:
        """Return, by image id, the complete annotations in the order of their own ids, with crowd regions.

        Raises ConfigError.
        """
        return dict(_read_annotations(self.file, json_file.file_version(self.file), None, False))

    def read_categories(self) -> Categories:
        """Return the categories by rising id. Raises ConfigError if one has no unique name."""
        return _read_categories(self.file, json_file.file_version(self.file))

    def make_example(self, image: ListedImage) -> Example:
        """Return the example of a listed image, without annotations. Its id is its path below the folder of images."""
        if image.name is None:
            return Example(f"id {image.id}", self.images, problems=image.problems)
        folders = (self.images, self.images.parent, self.root)
        places = (folder / name for name in spell_name(image.name) for folder in folders)
        path, problems = locate_image(image.name, places, self.root)
        if problems:
            return Example(escape_unprintable(image.name), path, problems=(*image.problems, *problems))
        inside = path.is_relative_to(os.path.normpath(self.images))
        id = os.path.relpath(path, self.images if inside else self.root)
        name = image.name.replace("\\", "/").rpartition("/")[2]
        if not os.path.isfile(path) and name and os.path.isfile(self.images / name):
            problems = (f"missing; {name} is in {self.images.name}: write its file_name without folders",)
        return Example(id, path, problems=(*image.problems, *problems))

    def identity(self, samples: int) -> Mapping[str, str]:
        """Return folder, split, number of images and a digest of the annotations."""
        return {
            "name": self.name,
            "root": str(self.root.resolve()),
            "split": self.split,
            "samples": str(samples),
            "annotations_sha256": digest_file(self.file),
        }


def read_lists(path: Path, keys: Iterable[str]) -> Mapping[str, Any]:
    """Return the JSON object of a file, whose values under these keys are lists. Raises ConfigError.

    A file is read only once, unless it changes.
    """
    content = json_file.read_json(path)
    names = list(keys)
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: not the expected annotations: it is {json_file.describe_type(content)}, not an object with the "
            f"lists {' and '.join(map(repr, names))}"
        )
    for key in names:
        if key not in content:
            raise ConfigError(f"{path}: not the expected annotations: it has no list '{key}'")
        if not isinstance(content[key], list):
            kind = json_file.describe_type(content[key])
            raise ConfigError(f"{path}: not the expected annotations: its '{key}' is {kind}, not a list")
    return content


def merge_repeated(examples: Iterable[Example]) -> list[Example]:
    """Return one example for each id. If an image is listed more than once, this is a problem of its example."""
    every = list(examples)
    times = Counter(example.id for example in every)
    unique: dict[str, Example] = {}
    for example in every:
        if times[example.id] > 1:
            example = replace(example, problems=(*example.problems, f"listed {times[example.id]} times"))
        unique.setdefault(example.id, example)
    return list(unique.values())


def make_unlisted(ids: Iterable[Id], root: Path) -> list[Example]:
    """Return an example, which cannot be used, for each annotated image that is not listed, by rising id."""
    problem = "annotations for an image that is not listed"
    names = [
        str(id) if isinstance(id, int) else f"image_id {json_file.show(id)}"
        for id in sorted(set(ids), key=coco_schema.sort_key)
    ]
    return [Example(name, root, problems=(problem,)) for name in names]


@lru_cache(maxsize=4)
def _read_images(path: Path, version: tuple[int, int]) -> list[ListedImage]:
    return coco_schema.parse_images(path, read_lists(path, ("images", "annotations"))["images"])


@lru_cache(maxsize=4)
def _read_categories(path: Path, version: tuple[int, int]) -> Categories:
    return parse_categories(path, read_lists(path, ("categories",))["categories"])


@lru_cache(maxsize=4)
def _read_annotations(path: Path, version: tuple[int, int], key: str | None, crowds: bool) -> dict[Id, Annotations]:
    rows = read_lists(path, ("images", "annotations"))["annotations"]
    return coco_schema.parse_annotations(path, rows, key, crowds)
