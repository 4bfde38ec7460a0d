"""A folder of pictures with one file of captions: a table, lines of JSON, or Flickr30k's `.token` file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from visionbench import annotation
from visionbench.core import Example
from visionbench.registry import ConfigError, register

FILES = ("captions.csv", "captions.jsonl", "metadata.jsonl", "metadata.csv", "captions.txt", "results_20130124.token")
PICTURE_KEYS = ("file_name", "image", "filename", "image_name")
CAPTION_KEYS = ("caption", "captions", "text", "comment")


@register("data", "captioned_folder")
@dataclass(frozen=True)
class CaptionedFolder:
    """Options: the file of `captions` (by default the first that is there), and `samples`, the first so many pictures.

    A table has a column for the picture and one for the caption, a row for each caption, several for a picture where it
    has several; a line of JSON has a caption or a list of them; a line of `.token` is `picture.jpg#0<tab>caption`.
    """

    root: str
    captions: str | None = None
    samples: int | None = None

    gives: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        annotation.at_least_one(samples=self.samples)

    def examples(self) -> Sequence[Example]:
        """The pictures in the order in which the file first names them."""
        root, captions = self._root, dict[str, list[Any]]()
        try:
            for name, caption in _pairs(self._file):
                captions.setdefault(name, []).extend(caption if isinstance(caption, list) else [caption])
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self._file}: not UTF-8 ({error.reason} at byte {error.start})") from None
        if not captions:
            raise ConfigError(f"{self._file}: no caption in it")
        examples = [annotation.captioned(name, _picture(root, name), said) for name, said in captions.items()]
        return examples[: self.samples]

    def classes(self) -> Sequence[str]:
        """None: it has no labels."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Folder, file, number of pictures and a digest of the captions."""
        return {
            "name": "captioned_folder",
            "root": str(self._root.resolve()),
            "captions": self._file.name,
            "samples": str(len(self.examples())),
            "annotations_sha256": annotation.digest(self._file),
        }

    @property
    def _root(self) -> Path:
        return annotation.folder(self.root, "captioned_folder")

    @property
    def _file(self) -> Path:
        names = [self.captions] if self.captions else list(FILES)
        return annotation.within(self._root, names, f"one of {', '.join(FILES)} beside the pictures")


def _picture(root: Path, name: str) -> Path:
    places = (root / name, root / "images" / name, root / "flickr30k-images" / name)
    return next((place for place in places if place.is_file()), places[0])


def _pairs(path: Path) -> Iterator[tuple[str, Any]]:
    """Pictures and captions as the file has them. Raises ConfigError naming the line that is not of its form."""
    if path.suffix == ".jsonl":
        yield from _lines_of_json(path)
    elif path.suffix == ".token":
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            name, tab, caption = line.partition("\t")
            if not tab:
                raise ConfigError(f"{path}, line {number}: not of the form picture.jpg#0<tab>caption")
            yield name.partition("#")[0], caption
    else:
        yield from _table(path)


def _lines_of_json(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError:
            row = ()
        if row is None:
            continue
        row = row if isinstance(row, dict) else {}
        picture = next((row[key] for key in PICTURE_KEYS if key in row), None)
        caption = next((row[key] for key in CAPTION_KEYS if key in row), None)
        if picture is None or caption is None:
            raise ConfigError(f'{path}, line {number}: not of the form {{"file_name": …, "caption": …}}')
        yield picture, caption


def _table(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows of a table; without a heading the first column is the picture, and the rest of the line its caption."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        sample = file.readline()
        file.seek(0)
        rows = csv.reader(file, delimiter="|" if sample.count("|") > sample.count(",") else ",", skipinitialspace=True)
        heading = [cell.strip().lower() for cell in next(rows, [])]
        picture = next((heading.index(key) for key in PICTURE_KEYS if key in heading), None)
        caption = next((heading.index(key) for key in CAPTION_KEYS if key in heading), None)
        if picture is None or caption is None:
            picture, caption = 0, None
            if not heading or Path(heading[0]).suffix not in annotation.PICTURE_SUFFIXES:
                raise ConfigError(f"{path}: no column for the picture ({', '.join(PICTURE_KEYS)}) and the caption")
            file.seek(0)
        elif (picture, len(heading)) == (0, 2):
            caption = None  # a comma in a caption without quotes belongs to it
        for row in rows:
            if len(row) > 1:
                yield row[picture].strip(), ", ".join(row[1:]) if caption is None else (row + [""])[caption]
