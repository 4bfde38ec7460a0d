"""List the files below a data set's folder: follow links, ignore files that programs leave behind, count the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath

from visionbench.core import ConfigError
from visionbench.datafiles.messages import escape_unprintable, list_first

IGNORED = frozenset(
    {
        *("__macosx", "@eadir", "@recycle", "#recycle", "$recycle.bin", "system volume information", "lost+found"),
        *("__pycache__", "cvs", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    }
)
"""Names, in lower case, that archives, file managers and servers leave in a folder. Hidden names are also ignored."""
OPENED_AS_JPEG = "MPO"
"""A format with several JPEGs in one file, which Pillow opens with its JPEG reader."""
NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Formats that Pillow identifies, but cannot decode without another program."""
COMMON_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
TEXT_SUFFIXES = frozenset(
    {".csv", ".html", ".json", ".jsonl", ".log", ".md", ".rst", ".toml", ".tsv", ".txt", ".xml", ".yaml"}
)
"""Suffixes of files that are certainly not images, and are not reported."""
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"})
"""Names, in lower case, of folders that contain one split of a data set."""
SUFFIXES_SHOWN = 5
"""Number of suffixes that a message names; the others are counted."""


@dataclass
class FolderListing:
    """The content of a folder, each list in the order of the paths."""

    folders: list[str] = field(default_factory=list)
    """The visible folders directly below it."""
    images: list[tuple[PurePath, Path]] = field(default_factory=list)
    """The path of each image below the folder, and its full path."""
    dead_links: list[PurePath] = field(default_factory=list)
    """Links to a folder or an image that does not exist."""
    others: Counter[str] = field(default_factory=Counter)
    """The number of other files in subfolders, by suffix."""

    def without_texts(self) -> Counter[str]:
        """Return the number of other files by suffix, without files that are certainly not images."""
        return Counter({suffix: count for suffix, count in self.others.items() if suffix not in TEXT_SUFFIXES})


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of all formats that Pillow can decode."""
    from PIL import Image

    known = Image.registered_extensions()
    decoded = {OPENED_AS_JPEG, *Image.OPEN} - NOT_DECODED
    return frozenset(suffix.lower() for suffix, kind in known.items() if kind in decoded)


def is_image(path: PurePath) -> bool:
    """Return whether a file's suffix is that of an image."""
    return path.suffix.lower() in image_suffixes()


def is_ignored(name: str) -> bool:
    """Return whether a file or folder with this name is hidden, or was left behind by a program."""
    return name.startswith(".") or name.lower() in IGNORED


def list_folder(root: Path, follow_links: bool = False) -> FolderListing:
    """List everything below a folder. Links within it are followed, links out of it only with `follow_links`.

    Raises ConfigError for a link out of the folder or to one of its parent folders, and for a folder or image that is
    reached twice.
    """
    walker = _Walker(root, follow_links)
    walker.walk(root, PurePath(), root.resolve())
    walker.listing.images.sort()
    return walker.listing


def describe_others(others: Counter[str]) -> str:
    """Return `3 files with other suffixes (.heic 2, .raw 1)`, or '' if there are none."""
    if not others:
        return ""
    by_count = sorted(others.items(), key=lambda pair: -pair[1])
    named = [f"{escape_unprintable(suffix) or 'none'} {count}" for suffix, count in by_count]
    total = others.total()
    listed = list_first(named, SUFFIXES_SHOWN, "suffixes")
    return f"{total} file{'s' if total > 1 else ''} with other suffixes ({listed})"


@dataclass
class _Walker:
    """A walk through a folder. `visited` contains the resolved path of every folder and image that was reached."""

    root: Path
    follow_links: bool
    listing: FolderListing = field(default_factory=FolderListing)
    visited: dict[Path, PurePath] = field(default_factory=dict)

    def walk(self, folder: Path, place: PurePath, resolved: Path) -> None:
        """Add the content of a folder. `place` is its path below the root, `resolved` its path without links."""
        self._visit(resolved, place)
        try:
            entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be read ({error.strerror})", "make it readable") from None
        for entry in entries:
            if not is_ignored(entry.name):
                self._add(entry, place / entry.name, resolved)

    def _add(self, entry: Path, place: PurePath, folder: Path) -> None:
        """Add an entry of a folder whose path without links is `folder`."""
        target = folder / entry.name
        if entry.is_symlink():
            try:
                target = entry.resolve(strict=True)
            except (OSError, RuntimeError):  # Python 3.11 raises RuntimeError for a link to itself
                if is_image(place) or not place.suffix:
                    self.listing.dead_links.append(place)
                else:
                    self.listing.others[place.suffix.lower()] += 1
                return
            self._check_link(entry, target, folder)
        if target.is_dir():
            if not place.parent.parts:
                self.listing.folders.append(escape_unprintable(entry.name))
            self.walk(entry, place, target)
        elif is_image(place):
            self._visit(target, place)
            self.listing.images.append((place, entry))
        elif place.parent.parts:
            self.listing.others[place.suffix.lower()] += 1

    def _check_link(self, link: Path, target: Path, folder: Path) -> None:
        if target in (folder, *folder.parents):
            raise ConfigError(f"{link}: the link leads back to a folder that contains it ({target})", "remove it")
        if not self.follow_links and not target.is_relative_to(self.root.resolve()):
            raise ConfigError(
                f"{link}: the link leads out of data.root, to {target}",
                "allow it with data.options.follow_links=true, or remove it",
            )

    def _visit(self, resolved: Path, place: PurePath) -> None:
        if resolved in self.visited:
            kind = "folder" if resolved.is_dir() else "image"
            raise ConfigError(
                f"data.root={self.root}: {self.visited[resolved]} and {place} are the same {kind}, which would count "
                "twice",
                "remove one",
            )
        self.visited[resolved] = place
