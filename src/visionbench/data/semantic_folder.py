"""A folder of images, and of masks whose numbers are the classes of the pixels."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from visionbench.core import ConfigError, DataClass, Example
from visionbench.datafiles.class_maps import MapRule, find_problem, read_class_map
from visionbench.datafiles.data_folder import check_counts, find_folder
from visionbench.datafiles.paired_files import Pair, pair_files
from visionbench.datafiles.text_file import read_text, split_lines
from visionbench.examples.class_mapping import find_targets, parse_mapping
from visionbench.examples.content_digest import digest_files
from visionbench.registry import register

NAMES_FILE = "classes.txt"
SUFFIX = ".png"


@register("data", "semantic_folder")
@dataclass
class SemanticFolder:
    """Images in `images/` and PNG masks of the same names in `masks/`, in the order of their paths.

    Options: `images` and `masks`, other folders below `root`; `names`, the file with the names of the classes, one per
    line by index; `ignore_index`, the number of pixels that do not count; `reduce_zero_label`, true if 0 means no class
    and class k is stored as k + 1; `samples`, the number of images; `classes`, the model's class for a class, by name
    or index.
    """

    root: str
    images: str = "images"
    masks: str = "masks"
    names: str | None = None
    ignore_index: int = 255
    reduce_zero_label: bool = False
    samples: int | None = None
    class_mapping: Any = field(default=None, metadata={"option": "classes"})

    provides: ClassVar[frozenset[str]] = frozenset({"class_map"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)
        parse_mapping(self.class_mapping)

    def examples(self) -> Sequence[Example]:
        """Return the images with their class maps. Raises ConfigError if a folder does not exist or has no image.

        A mask without an image is one more example, which cannot be used.
        """
        rule = self._rule
        return [self._make_example(pair, rule) for pair in self._pairs][: self.samples]

    def classes(self) -> Sequence[str]:
        """Return an empty tuple: the images have no labels."""
        return ()

    def map_classes(self) -> Sequence[DataClass]:
        """Return the classes of the names file, each with the model's class that the config gives."""
        names = self._read_names()
        targets = find_targets(self.class_mapping, names)
        return [DataClass(name, target=targets.get(name)) for name in names]

    def identity(self) -> Mapping[str, str]:
        """Return folder, options, number of images and a digest of classes and masks."""
        pairs = self._pairs[: self.samples]
        digests = digest_files([pair.other for pair in pairs])
        content = json.dumps([self._read_names(), [(pair.name, digests[pair.other]) for pair in pairs]])
        return {
            "name": "semantic_folder",
            "root": str(self._root.resolve()),
            "images": self.images,
            "masks": self.masks,
            "ignore_index": str(self.ignore_index),
            "reduce_zero_label": str(self.reduce_zero_label).lower(),
            "samples": str(len(pairs)),
            "annotations_sha256": hashlib.sha256(content.encode()).hexdigest(),
        }

    def _make_example(self, pair: Pair, rule: MapRule) -> Example:
        if pair.problems:
            return Example(pair.name, pair.image, problems=pair.problems)
        size, problem = find_problem(pair.other, pair.other_name)
        return Example(
            pair.name,
            pair.image,
            class_map=partial(read_class_map, pair.other, pair.other_name, rule),
            size=size,
            problems=(problem,) if problem else (),
        )

    @property
    def _root(self) -> Path:
        return find_folder(self.root, "semantic_folder")

    @property
    def _pairs(self) -> Sequence[Pair]:
        return pair_files(self._root, self.images, self.masks, "masks", (SUFFIX,))

    @property
    def _rule(self) -> MapRule:
        return MapRule(len(self._read_names()), self.ignore_index, self.reduce_zero_label)

    def _read_names(self) -> list[str]:
        """Return the names of the classes. Raises ConfigError if there are none, or if two are equal."""
        path = self._root / NAMES_FILE if self.names is None else Path(self.names).expanduser()
        setting = f"data.root={self.root}" if self.names is None else f"data.options.names={self.names}"
        if not path.is_file():
            raise ConfigError(
                f"{setting}: {path} does not exist",
                "write the names of the classes into it, one per line in the order of their numbers",
            )
        names = [line.strip() for line in split_lines(read_text(path))]
        if not any(names):
            raise ConfigError(f"{setting}: {path} has no names", "write one name per line")
        if "" in names:
            raise ConfigError(f"{path}, line {names.index('') + 1}: it is empty", "write the name of the class into it")
        if repeated := next((name for name, times in Counter(names).items() if times > 1), None):
            raise ConfigError(f"{path}: '{repeated}' is listed twice", "give each class another name")
        return names
