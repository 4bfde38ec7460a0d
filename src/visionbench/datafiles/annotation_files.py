"""Reading annotation files as they come from elsewhere: JSON, lines and tables, with their faults in one line."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from visionbench.core import Example
from visionbench.datafiles import coco_schema, json_file
from visionbench.datafiles.coco_schema import Described, Id, ListedPicture
from visionbench.registry import ConfigError

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
EMPTY_CAPTION = "an empty caption"
BLANK = ("Cc", "Cf", "Zl", "Zp", "Zs")
"""Unicode's categories of characters without ink: control and format characters, and all blanks."""
INVISIBLE = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and symbols without ink: Hangul's fillers and the empty Braille pattern."""
MISSING_VALUES = frozenset({"nan", "none", "null", "n/a", "#n/a", "<na>"})
"""What programs write for a caption that is not there, in lower case."""
LIST_AS_TEXT = re.compile(r"""\[\s*['"].*['"]\s*,?\s*\]""", re.DOTALL)
"""A list of texts, as Python or JSON writes it."""
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, halves of characters, and ends of lines and paragraphs."""


def folder(root: str, name: str) -> Path:
    """The data set's folder. Raises ConfigError where there is none."""
    path = Path(root).expanduser()
    if not path.is_dir():
        raise ConfigError(f"data.root={root}: there is no such folder; data={name} is read from one, see docs/data.md")
    return path


def within(root: Path, candidates: Sequence[str], expected: str) -> Path:
    """The first of these paths below a folder that is there. Raises ConfigError that tells what is expected."""
    found = next((root / name for name in candidates if (root / name).exists()), None)
    if found is None:
        raise ConfigError(f"data.root={root}: {candidates[0]} is not in it; expected {expected}, see docs/data.md")
    return found


def read_json(path: Path, keys: Iterable[str]) -> Mapping[str, Any]:
    """An object that has these keys, each a list; read once as long as the file stays the same. Raises ConfigError."""
    found = json_file.read(path)
    names = list(keys)
    if not isinstance(found, dict):
        raise ConfigError(
            f"{path}: not the annotations that are meant; it is {json_file.kind(found)}, not an object with the "
            f"lists {' and '.join(map(repr, names))}"
        )
    for key in names:
        if not isinstance(found.get(key), list):
            there = f"its '{key}' is {json_file.kind(found[key])}" if key in found else f"it has no list '{key}'"
            raise ConfigError(f"{path}: not the annotations that are meant; {there}")
    return found


def apart(examples: Iterable[Example]) -> list[Example]:
    """One example for each id; one whose picture is listed more than once has that as a fault."""
    every = list(examples)
    times = Counter(example.id for example in every)
    found: dict[str, Example] = {}
    for example in every:
        if times[example.id] > 1:
            example = replace(example, faults=(*example.faults, f"listed {times[example.id]} times"))
        found.setdefault(example.id, example)
    return list(found.values())


@dataclass(frozen=True)
class CocoFiles:
    """One of COCO's annotation files and the folder of pictures that it speaks of."""

    name: str
    """Of the data set."""
    root: Path
    file: Path
    pictures: Path
    split: str

    @classmethod
    def find(cls, name: str, root: str, split: str, file: str) -> CocoFiles:
        """`file` below `root`, and the pictures in `<split>` or `images/<split>`. Raises ConfigError."""
        base, layout = folder(root, name), f"{file} and a folder {split} of pictures"
        annotations = within(base, [file], layout)
        return cls(name, base, annotations, within(base, [split, f"images/{split}", "images"], layout), split)

    def listed(self) -> list[ListedPicture]:
        """The pictures by rising id. Raises ConfigError where the list does not tell them apart."""
        return _listed(self.file, _stamp(self.file))

    def captions(self) -> dict[Id, Described]:
        """By the picture's id, its captions in the order of their own ids. Raises ConfigError."""
        return dict(_described(self.file, _stamp(self.file), "caption", False))

    def regions(self) -> dict[Id, Described]:
        """By the picture's id, the regions of its instances in the order of their own ids, without those of crowds.

        Raises ConfigError.
        """
        return dict(_described(self.file, _stamp(self.file), "segmentation", True))

    def example(self, picture: ListedPicture) -> Example:
        """A listed picture without its annotations: its id is its path below the folder of pictures."""
        if picture.name is None:
            return Example(f"id {picture.id}", self.pictures, faults=picture.faults)
        folders = (self.pictures, self.pictures.parent, self.root)
        places = (folder / name for name in spellings(picture.name) for folder in folders)
        path, faults = placed(picture.name, places, self.root)
        if faults:
            return Example(printable(picture.name), path, faults=(*picture.faults, *faults))
        inside = path.is_relative_to(os.path.normpath(self.pictures))
        id = os.path.relpath(path, self.pictures if inside else self.root)
        alone = picture.name.replace("\\", "/").rpartition("/")[2]
        if not os.path.isfile(path) and alone and os.path.isfile(self.pictures / alone):
            faults = (f"missing; {alone} lies in {self.pictures.name}: write its file_name without folders",)
        return Example(id, path, faults=(*picture.faults, *faults))

    def identity(self, samples: int) -> Mapping[str, str]:
        """Folder, split, number of pictures and a digest of the annotations."""
        return {
            "name": self.name,
            "root": str(self.root.resolve()),
            "split": self.split,
            "samples": str(samples),
            "annotations_sha256": digest(self.file),
        }


def _stamp(path: Path) -> tuple[int, int]:
    """What changes with a file's content."""
    at = path.stat()
    return at.st_mtime_ns, at.st_size


@lru_cache(maxsize=4)
def _listed(path: Path, changed: tuple[int, int]) -> list[ListedPicture]:
    return coco_schema.listed(path, read_json(path, ("images", "annotations"))["images"])


@lru_cache(maxsize=4)
def _described(path: Path, changed: tuple[int, int], wanted: str, crowds: bool) -> dict[Id, Described]:
    rows = read_json(path, ("images", "annotations"))["annotations"]
    return coco_schema.described(path, rows, wanted, crowds)


def placed(name: str, places: Iterable[Path], root: Path) -> tuple[Path, tuple[str, ...]]:
    """Where the picture of this name lies: the first of the places that is a file, else the first of all.

    Returns its path and what is wrong with the name: one that cannot be printed, that is no path below a folder, or
    that leads out of `root`.
    """
    if not name.isprintable() and printable(name) != name:
        return root, ("a file name with characters that cannot be printed",)
    if "://" in name:
        return root, ("a file name that is a URL: write its path below the folder of pictures",)
    if re.match(r"[/\\]|[A-Za-z]:[/\\]", name):
        return root, ("a file name that is an absolute path: write its path below the folder of pictures",)
    found = None
    for place in map(os.path.normpath, places):
        found = found or place
        if os.path.isfile(place):
            found = place
            break
    assert found is not None
    if not os.path.abspath(found).startswith(os.path.join(os.path.abspath(root), "")):
        return root, ("a file name that leads out of the data set's folder",)
    return Path(found), ()


def spellings(name: str) -> Iterator[str]:
    """A file's name as it is, with Windows' backslashes as slashes, and in the Unicode forms that systems write."""
    yield name
    yield name.replace("\\", "/")
    yield from (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))


def printable(name: str) -> str:
    """A name in which characters that would break a line, or cannot be written, are escaped."""
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in UNPRINTABLE else character
        for character in name
    )


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_all(paths: Iterable[Path]) -> str:
    """SHA-256 of the digests of several files, in turn."""
    return hashlib.sha256("".join(digest(path) for path in paths).encode()).hexdigest()


def caption_faults(captions: Iterable[Any]) -> tuple[str, ...]:
    """Whether one of a picture's captions is no text or says nothing."""
    every = list(captions)
    found = []
    if any(isinstance(text, list | dict) for text in every):
        found.append("a caption that is a list or an object, not text")
    if any(not isinstance(text, list | dict) and (not isinstance(text, str) or _blank(text)) for text in every):
        found.append(EMPTY_CAPTION)
    texts = [text.strip() for text in every if isinstance(text, str)]
    if missing := next((text for text in texts if text.lower() in MISSING_VALUES), None):
        found.append(f"a caption that is only '{missing}', which stands for a missing value")
    if any(LIST_AS_TEXT.fullmatch(text) for text in texts):
        found.append("a caption that is a list of captions in one cell: give each caption a row of its own")
    if any(isinstance(text, str) and not _encodable(text) for text in every):
        found.append("a caption with half a character (a lone surrogate)")
    return tuple(found)


def _blank(text: str) -> bool:
    """Whether nothing of a text can be seen: it has only blanks, and characters without width or ink."""
    return all(character in INVISIBLE or unicodedata.category(character) in BLANK for character in text)


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def captioned(id: str, image: Path, captions: Sequence[Any], faults: Sequence[str] = ()) -> Example:
    """An example with its captions, stripped, and its faults."""
    every = (*faults, *caption_faults(captions), *([] if captions else ["no caption"]))
    return Example(id, image, captions=tuple(str(text).strip() for text in captions), faults=every)


def unlisted(ids: Iterable[Id], root: Path) -> list[Example]:
    """What stands for pictures that annotations speak of and no list of pictures names, by rising id."""
    fault = "annotations for a picture that is not listed"
    names = [
        str(id) if isinstance(id, int) else f"image_id {json_file.shown(id)}"
        for id in sorted(set(ids), key=coco_schema.order)
    ]
    return [Example(name, root, faults=(fault,)) for name in names]


def at_least_one(**options: int | None) -> None:
    """Raise ConfigError for a count below 1."""
    for name, value in options.items():
        if value is not None and value < 1:
            raise ConfigError(f"data.options.{name}={value}: must be at least 1")
