"""A folder of images with one caption file: a table, lines of JSON, or Flickr30k's `.token` file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from visionbench.core import Example
from visionbench.datafiles.caption_file import CaptionFile, Options, read_caption_file
from visionbench.datafiles.captions import make_captioned
from visionbench.datafiles.data_folder import check_counts, digest_file, find_file, find_folder, spell_name
from visionbench.registry import register

FILES = ("captions.csv", "captions.jsonl", "metadata.jsonl", "metadata.csv", "captions.txt", "results_20130124.token")
FOLDERS = ("", "images", "flickr30k-images", "Images", "flickr30k_images")
"""Folders below the root that may contain the images."""


@register("data", "captioned_folder")
@dataclass(frozen=True)
class CaptionedFolder:
    """Options: the caption file `captions` (by default the first that exists), and `samples`, the number of images.

    A table has one column for the image, one for the caption, and one row for each caption. A line of JSON has one
    caption or a list of captions. A line of a `.token` file is `image.jpg#0<tab>caption`. `encoding`, `delimiter`,
    `quotes`, `picture_column` and `caption_column` replace the values that are otherwise detected from the file.
    """

    root: str
    captions: str | None = None
    samples: int | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quotes: str | None = None
    picture_column: str | None = None
    caption_column: str | None = None

    provides: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)
        _ = self._options

    def examples(self) -> Sequence[Example]:
        """Return the images in the order in which the file first names them.

        The problem of a row is a problem of its image, or of an example that is named after the line. Several spellings
        of one path (`a.jpg`, `./a.jpg`) are one image, with the first spelling as its name.
        """
        return self._make_examples(self._read_captions())

    def classes(self) -> Sequence[str]:
        """Return an empty tuple: the data set has no labels."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Return folder, file and its form, number of images and a digest of the captions."""
        captions = self._read_captions()
        return {
            "name": "captioned_folder",
            "root": str(self._root.resolve()),
            "captions": self._file.name,
            "form": captions.form,
            "samples": str(len(self._make_examples(captions))),
            "annotations_sha256": digest_file(self._file),
        }

    def _make_examples(self, file: CaptionFile) -> list[Example]:
        root, file_name = self._root, self._file.name
        captions: dict[str, list[str]] = {}
        problems: dict[str, list[str]] = {}
        paths = {name: _locate(root, name) for name in dict.fromkeys(row.image for row in file.rows) if name}
        first_spelling: dict[str, str] = {}
        for name, path in paths.items():
            first_spelling.setdefault(os.path.normpath(path), name)
        for row in file.rows:
            line = f"{file_name}, line {row.line}"
            name = first_spelling[os.path.normpath(paths[row.image])] if row.image else line
            captions.setdefault(name, []).extend(row.captions)
            if row.problem is not None:
                problems.setdefault(name, []).append(f"{line}: {row.problem}")
        examples = [
            _make_example(name, paths.get(name, root / name), texts, problems.get(name, []))
            for name, texts in captions.items()
        ]
        return examples[: self.samples]

    def _read_captions(self) -> CaptionFile:
        return read_caption_file(self._file, self._options)

    @property
    def _options(self) -> Options:
        return Options(self.encoding, self.delimiter, self.quotes, self.picture_column, self.caption_column)

    @property
    def _root(self) -> Path:
        return find_folder(self.root, "captioned_folder")

    @property
    def _file(self) -> Path:
        names = [self.captions] if self.captions else list(FILES)
        return find_file(self._root, names, f"one of {', '.join(FILES)} beside the images")


def _make_example(name: str, path: Path, captions: Sequence[str], problems: Sequence[str]) -> Example:
    """Return an image with its captions. Problems of its rows exclude those of the captions, which they may cause."""
    if problems:
        return Example(name, path, captions=tuple(text.strip() for text in captions), problems=tuple(problems))
    return make_captioned(name, path, captions)


def _locate(root: Path, name: str) -> Path:
    """Return the path of an image, whose name may be spelled differently on disk."""
    places = [root / folder / spelling for spelling in spell_name(name) for folder in FOLDERS]
    return next((place for place in places if _is_file(place)), places[0])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # the name is too long, or contains a NUL
        return False
