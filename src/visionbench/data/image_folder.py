"""A folder of images, or of one folder of images for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, ClassVar

from visionbench.core import ConfigError, DataClass, Example
from visionbench.datafiles.data_folder import check_counts, find_folder
from visionbench.datafiles.folder_listing import COMMON_SUFFIXES, SPLITS, FolderListing, describe_others, list_folder
from visionbench.datafiles.messages import escape_unprintable, quote_first
from visionbench.examples.class_mapping import find_targets, parse_mapping
from visionbench.examples.sampling import sample_evenly
from visionbench.registry import register


@register("data", "image_folder")
@dataclass
class ImageFolder:
    """Images below `root` in the order of their paths. The label of an image in a subfolder is the outermost subfolder.

    Options: `samples`, the number of images, taken evenly from all classes; `follow_links`, to follow links out of
    `root`; `classes`, the model's class for a folder, by name or index.
    """

    root: str
    samples: int | None = None
    follow_links: bool = False
    class_mapping: Any = field(default=None, metadata={"option": "classes"})

    provides: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)
        parse_mapping(self.class_mapping)

    def examples(self) -> Sequence[Example]:
        """Return the images. Raises ConfigError if the folder does not exist, or has no image."""
        listing = self._list()
        if not listing.images:
            other_files = describe_others(listing.others)
            raise ConfigError(
                f"data.root={self.root}: it contains no image ({', '.join(COMMON_SUFFIXES)} or another suffix that "
                f"Pillow can decode){f', but {other_files}' if other_files else ''}",
                "give a folder of images",
            )
        root = find_folder(self.root, "image_folder")
        dead_links = [
            Example(escape_unprintable(str(place)), root / place, label=_find_label(place), problems=("a broken link",))
            for place in listing.dead_links
        ]
        images = [
            Example(escape_unprintable(str(place)), path, label=_find_label(place)) for place, path in listing.images
        ]
        return sample_evenly([*images, *dead_links], self.samples)

    def classes(self) -> Sequence[str]:
        """Return the visible outermost folders, sorted, including those without an image."""
        return [one.name for one in self.described_classes()]

    def described_classes(self) -> Sequence[DataClass]:
        """Return the classes, each with the model's class that the config gives."""
        listing = self._list()
        names = sorted(listing.folders)
        self._check_layout(listing, names)
        targets = find_targets(self.class_mapping, names)
        return [DataClass(name, target=targets.get(name)) for name in names]

    def warnings(self) -> Mapping[str, str]:
        """Return flags for files that are neither images nor texts, and for classes with several folders of images,
        which may be the classes themselves."""
        listing = self._list()
        flags = {}
        if other_files := describe_others(listing.without_texts()):
            flags["other_endings"] = f"{other_files} were not read as images"
        if nested := _find_nested_classes(listing):
            flags["folders_in_classes"] = (
                f"{len(nested)} of {len(listing.folders)} folders of classes contain several folders with images, "
                f"such as '{nested[0]}'; the class of each image is its outermost folder"
            )
        return flags

    def identity(self) -> Mapping[str, str]:
        """Return the folder and the number of images that are used."""
        return {
            "name": "image_folder",
            "root": str(Path(self.root).expanduser().resolve()),
            "samples": str(len(self.examples())),
        }

    def _list(self) -> FolderListing:
        return list_folder(find_folder(self.root, "image_folder"), self.follow_links)

    def _check_layout(self, listing: FolderListing, names: Sequence[str]) -> None:
        """Raise ConfigError for a folder of splits, whose names would become classes."""
        places = [place for place, _ in listing.images]
        nested = [place for place in places if len(place.parts) > 2]
        direct = {place.parts[0] for place in places if len(place.parts) == 2}
        splits = [name for name in names if name.lower() in SPLITS and name not in direct]
        root = self.root.rstrip("/")
        if nested and (len(splits) > 1 or splits == names):
            raise ConfigError(
                f"data.root={self.root}: its folders are splits and not classes ({quote_first(splits)})",
                f"choose one, as in data.root={root}/{splits[-1]}",
            )
        if len(names) == 1 and len({place.parts[1] for place in nested}) > 1:
            raise ConfigError(
                f"data.root={self.root}: its only folder '{names[0]}' contains folders itself",
                f"if these are the classes, give data.root={root}/{names[0]}",
            )


def _find_nested_classes(listing: FolderListing) -> list[str]:
    """Return the classes that have images in several folders of their own."""
    subfolders: dict[str, set[str]] = {}
    for place, _ in listing.images:
        if len(place.parts) > 2:
            subfolders.setdefault(place.parts[0], set()).add(place.parts[1])
    return sorted(name for name, names in subfolders.items() if len(names) > 1)


def _find_label(place: PurePath) -> str | None:
    return escape_unprintable(place.parts[0]) if len(place.parts) > 1 else None
