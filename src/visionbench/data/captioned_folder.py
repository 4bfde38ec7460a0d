"""A folder of pictures with one file of captions: a table, lines of JSON, or Flickr30k's `.token` file."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from visionbench.core import Example
from visionbench.datafiles import annotation_files, caption_file
from visionbench.datafiles.caption_file import CaptionFile, Options
from visionbench.registry import register

FILES = ("captions.csv", "captions.jsonl", "metadata.jsonl", "metadata.csv", "captions.txt", "results_20130124.token")
FOLDERS = ("", "images", "flickr30k-images", "Images", "flickr30k_images")
"""Where pictures lie below the root."""


@register("data", "captioned_folder")
@dataclass(frozen=True)
class CaptionedFolder:
    """Options: the file of `captions` (by default the first that is there), and `samples`, the first so many pictures.

    A table has a column for the picture and one for the caption, a row for each caption, several for a picture where it
    has several; a line of JSON has a caption or a list of them; a line of `.token` is `picture.jpg#0<tab>caption`.
    `encoding`, `delimiter`, `quotes`, `picture_column` and `caption_column` state what is else found in the file.
    """

    root: str
    captions: str | None = None
    samples: int | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quotes: str | None = None
    picture_column: str | None = None
    caption_column: str | None = None

    gives: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        annotation_files.at_least_one(samples=self.samples)
        _ = self._options

    def examples(self) -> Sequence[Example]:
        """The pictures in the order in which the file first names them. A row with a fault is a fault of its picture,
        or of an example that is named after its line. Several spellings of one path (`a.jpg`, `./a.jpg`) are one
        picture, named by the first."""
        return self._examples(self._read())

    def classes(self) -> Sequence[str]:
        """None: it has no labels."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Folder, file and its form, number of pictures and a digest of the captions."""
        read = self._read()
        return {
            "name": "captioned_folder",
            "root": str(self._root.resolve()),
            "captions": self._file.name,
            "form": read.form,
            "samples": str(len(self._examples(read))),
            "annotations_sha256": annotation_files.digest(self._file),
        }

    def _examples(self, read: CaptionFile) -> list[Example]:
        root, file = self._root, self._file
        captions: dict[str, list[str]] = {}
        faults: dict[str, list[str]] = {}
        of_row = {name: _picture(root, name) for name in dict.fromkeys(row.picture for row in read.rows) if name}
        first: dict[str, str] = {}  # of several spellings of one path, such as a.jpg and ./a.jpg
        for name, path in of_row.items():
            first.setdefault(os.path.normpath(path), name)
        for row in read.rows:
            name = first[os.path.normpath(of_row[row.picture])] if row.picture else f"{file.name}, line {row.line}"
            captions.setdefault(name, []).extend(row.captions)
            if row.fault is not None:
                faults.setdefault(name, []).append(f"{file.name}, line {row.line}: {row.fault}")
        examples = [
            _example(name, of_row.get(name, root / name), said, faults.get(name, [])) for name, said in captions.items()
        ]
        return examples[: self.samples]

    def _read(self) -> CaptionFile:
        return caption_file.read(self._file, self._options)

    @property
    def _options(self) -> Options:
        return Options(self.encoding, self.delimiter, self.quotes, self.picture_column, self.caption_column)

    @property
    def _root(self) -> Path:
        return annotation_files.folder(self.root, "captioned_folder")

    @property
    def _file(self) -> Path:
        names = [self.captions] if self.captions else list(FILES)
        return annotation_files.within(self._root, names, f"one of {', '.join(FILES)} beside the pictures")


def _example(name: str, picture: Path, captions: Sequence[str], faults: Sequence[str]) -> Example:
    """A picture with its captions. One that a fault names is not said to have no caption as well."""
    if faults:
        return Example(name, picture, captions=tuple(text.strip() for text in captions), faults=tuple(faults))
    return annotation_files.captioned(name, picture, captions)


def _picture(root: Path, name: str) -> Path:
    """Where a picture lies. Its name may have another Unicode form on disk, or backslashes in the file of captions."""
    slashed = name.replace("\\", "/")
    forms = dict.fromkeys([name, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))])
    places = [root / folder / form for form in forms for folder in FOLDERS]
    return next((place for place in places if _is_file(place)), places[0])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False
