"""A folder of pictures, or of one folder of pictures for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, ClassVar

from visionbench.core import DataClass, Example
from visionbench.datafiles import annotation_files, folders
from visionbench.examples import sampling
from visionbench.examples.class_mapping import find_targets, parse_mapping
from visionbench.registry import ConfigError, register

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"})
"""Names of folders that hold folders of classes and are none themselves."""


@register("data", "image_folder")
@dataclass
class ImageFolder:
    """Pictures below `root` in the order of their paths; a picture in a subfolder is labelled with its first folder.

    Options: `samples`, so many pictures, taken evenly from all classes; `follow_links` follows links out of `root`;
    `classes` says which class of a model a folder is, by name or index.
    """

    root: str
    samples: int | None = None
    follow_links: bool = False
    class_mapping: Any = field(default=None, metadata={"option": "classes"})

    gives: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        annotation_files.at_least_one(samples=self.samples)
        parse_mapping(self.class_mapping)

    def examples(self) -> Sequence[Example]:
        """The pictures. Raises ConfigError where there is no folder, or no picture in it."""
        found = self._found
        if not found.pictures:
            endings = f"{', '.join(folders.COMMON)} or another ending that Pillow reads"
            seen = f", but {others}" if (others := folders.other_endings(found.others)) else ""
            raise ConfigError(f"data.root={self.root}: no picture in it ({endings}){seen}")
        dead = [
            Example(
                _id(inside),
                annotation_files.folder(self.root, "image_folder") / inside,
                label=_label(inside),
                faults=("a link to nothing",),
            )
            for inside in found.dead_links
        ]
        pictures = [Example(_id(inside), path, label=_label(inside)) for inside, path in found.pictures]
        return sampling.sample_evenly([*pictures, *dead], self.samples)

    def classes(self) -> Sequence[str]:
        """The visible first folders, sorted, also those without a picture."""
        return [one.name for one in self.described_classes()]

    def described_classes(self) -> Sequence[DataClass]:
        """The classes, each with the class of a model that the config gives for it."""
        names = sorted(self._found.folders)
        self._check_layout(names)
        given = find_targets(self.class_mapping, names)
        return [DataClass(name, target=given.get(name)) for name in names]

    def doubts(self) -> Mapping[str, str]:
        """Files in folders of classes that have the ending of no picture, unless it is that of a text; and classes with
        several folders, which may be the classes themselves."""
        others = self._found.others.copy()
        for ending in folders.TEXT:
            others.pop(ending, None)
        flags = {}
        if seen := folders.other_endings(others):
            flags["other_endings"] = f"{seen} were not read as pictures"
        if mixed := self._folders_of_folders():
            flags["folders_in_classes"] = (
                f"{len(mixed)} of {len(self._found.folders)} folders of classes hold several folders with pictures, "
                f"such as '{mixed[0]}'; each picture has the class of its outermost folder"
            )
        return flags

    def identity(self) -> Mapping[str, str]:
        """The folder and the number of pictures taken from it."""
        return {
            "name": "image_folder",
            "root": str(Path(self.root).expanduser().resolve()),
            "samples": str(len(self.examples())),
        }

    @property
    def _found(self) -> folders.Found:
        return folders.walk(annotation_files.folder(self.root, "image_folder"), self.follow_links)

    def _folders_of_folders(self) -> list[str]:
        """The classes that hold pictures in several folders of their own."""
        within: dict[str, set[str]] = {}
        for inside, _ in self._found.pictures:
            if len(inside.parts) > 2:
                within.setdefault(inside.parts[0], set()).add(inside.parts[1])
        return sorted(name for name, several in within.items() if len(several) > 1)

    def _check_layout(self, names: Sequence[str]) -> None:
        """Refuse a folder of splits, whose names would become classes."""
        pictures = self._found.pictures
        deeper = [inside for inside, _ in pictures if len(inside.parts) > 2]
        direct = {inside.parts[0] for inside, _ in pictures if len(inside.parts) == 2}
        splits = [name for name in names if name.lower() in SPLITS and name not in direct]
        if deeper and (len(splits) > 1 or splits == names):
            raise ConfigError(
                f"data.root={self.root}: its folders are splits and not classes ({folders.listed(splits)}); choose "
                f"one, as in data.root={self.root.rstrip('/')}/{splits[-1]}"
            )
        if len(names) == 1 and len({inside.parts[1] for inside in deeper}) > 1:
            raise ConfigError(
                f"data.root={self.root}: its only folder '{names[0]}' holds folders itself; if these are the classes, "
                f"give data.root={self.root.rstrip('/')}/{names[0]}"
            )


def _id(inside: PurePath) -> str:
    return folders.printable(str(inside))


def _label(inside: PurePath) -> str | None:
    return folders.printable(inside.parts[0]) if len(inside.parts) > 1 else None
