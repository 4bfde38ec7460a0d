"""The files below a data set's folder: links are followed, what programs leave behind is passed over, the rest is
counted."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath

from visionbench.registry import ConfigError

LEFT_BEHIND = frozenset(
    {
        *("__macosx", "@eadir", "@recycle", "#recycle", "$recycle.bin", "system volume information", "lost+found"),
        *("__pycache__", "cvs", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    }
)
"""Names in lower case that archives, file managers and servers leave in a folder; hidden names are passed over too."""
READ_AS_JPEG = "MPO"
"""Several JPEGs in one file, which Pillow opens by its JPEG reader."""
NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Formats that Pillow recognises and cannot read without another program."""
COMMON = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
TEXT = frozenset({".csv", ".html", ".json", ".jsonl", ".log", ".md", ".rst", ".toml", ".tsv", ".txt", ".xml", ".yaml"})
"""Endings that no picture has: files of this kind raise no doubt."""
NAMED = 5
"""So many endings are named; the others are counted."""


@dataclass
class Found:
    """What lies below a folder, each list in the order of the paths."""

    folders: list[str] = field(default_factory=list)
    """The visible folders directly below it."""
    pictures: list[tuple[PurePath, Path]] = field(default_factory=list)
    """Where a picture lies: below the folder, and as a whole path."""
    dead_links: list[PurePath] = field(default_factory=list)
    """Links to a folder or a picture that is not there."""
    others: Counter[str] = field(default_factory=Counter)
    """How many files with each other ending lie in subfolders."""


@cache
def picture_suffixes() -> frozenset[str]:
    """The endings, in lower case, of every format that Pillow can read."""
    from PIL import Image

    known = Image.registered_extensions()
    read = {READ_AS_JPEG, *Image.OPEN} - NOT_DECODED
    return frozenset(suffix.lower() for suffix, kind in known.items() if kind in read)


def is_picture(path: PurePath) -> bool:
    """Whether a file's ending is that of a picture."""
    return path.suffix.lower() in picture_suffixes()


def passed_over(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or was left behind by a program."""
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def walk(root: Path, follow_links: bool = False) -> Found:
    """Everything below a folder. Links are followed within it, and out of it only with `follow_links`.

    Raises ConfigError for a link that leads out of the folder or back to where it lies, and for a folder or picture
    that is reached twice.
    """
    found, seen = Found(), dict[Path, PurePath]()
    _walk(root, PurePath(), root.resolve(), found, seen, follow_links, root)
    found.pictures.sort()
    return found


def printable(name: str) -> str:
    """A file's name as one line of text: bytes that are not UTF-8 and characters that end a line are written out."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        else character
        for character in name
    )


def other_endings(others: Counter[str]) -> str:
    """`3 files with other endings (.heic 2, .raw 1)`; empty where there is none."""
    if not others:
        return ""
    named = [
        f"{printable(ending) or 'none'} {count}" for ending, count in sorted(others.items(), key=lambda pair: -pair[1])
    ]
    more = [f"and {len(named) - NAMED} more endings"] if len(named) > NAMED else []
    count = others.total()
    return f"{count} file{'s' if count > 1 else ''} with other endings ({', '.join([*named[:NAMED], *more])})"


def _walk(
    folder: Path, inside: PurePath, real: Path, found: Found, seen: dict[Path, PurePath], follow: bool, root: Path
) -> None:
    """Add what lies in a folder, `inside` below the root, whose path without links is `real`."""
    _once(real, inside, seen, root)
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror}); make it readable") from None
    for entry in entries:
        if passed_over(entry.name):
            continue
        place, target = inside / entry.name, real / entry.name
        if entry.is_symlink():
            try:
                target = entry.resolve(strict=True)
            except (OSError, RuntimeError):  # Python 3.11 raises RuntimeError for a link to itself
                if is_picture(place) or not place.suffix:
                    found.dead_links.append(place)
                else:
                    found.others[place.suffix.lower()] += 1
                continue
            _check_link(entry, target, real, root, follow)
        if target.is_dir():
            if not place.parent.parts:
                found.folders.append(printable(entry.name))
            _walk(entry, place, target, found, seen, follow, root)
        elif is_picture(place):
            if entry.is_symlink() or target in seen:
                _once(target, place, seen, root)
            else:
                seen[target] = place
            found.pictures.append((place, entry))
        elif place.parent.parts:
            found.others[place.suffix.lower()] += 1


def _check_link(link: Path, target: Path, real: Path, root: Path, follow: bool) -> None:
    if target in (real, *real.parents):
        raise ConfigError(f"{link}: the link leads back to a folder that it lies in ({target}); remove it")
    if not follow and not target.is_relative_to(root.resolve()):
        raise ConfigError(
            f"{link}: the link leads out of data.root, to {target}; allow it with data.options.follow_links=true, or "
            "remove it"
        )


def _once(real: Path, inside: PurePath, seen: dict[Path, PurePath], root: Path) -> None:
    if real in seen:
        raise ConfigError(
            f"data.root={root}: {seen[real]} and {inside} are the same {'folder' if real.is_dir() else 'picture'}, so "
            "that it would count twice; remove one"
        )
    seen[real] = inside


def listed(names: Iterable[str], most: int = NAMED) -> str:
    """`'a', 'b' and 3 more`."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(f"'{name}'" for name in every[:most]) + more
