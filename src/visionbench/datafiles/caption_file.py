"""Read a caption file: a table, lines of JSON, or lines of the form `image.jpg#0<tab>caption`.

A row with another form is kept with its problem and line. It is never dropped, shortened or corrected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError
from visionbench.datafiles.caption_table import IMAGE_NAME, CaptionRow, Layout, find_image_name, parse_table
from visionbench.datafiles.captions import has_surrogate
from visionbench.datafiles.json_lines import describe_value, read_json_lines
from visionbench.datafiles.text_file import read_text, split_lines

IMAGE_KEYS = ("file_name", "image", "filename", "image_name")
CAPTION_KEYS = ("caption", "captions", "text", "comment")
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
QUOTES = ("csv", "text")
TOKEN_LINE = re.compile(r"(?P<image>[^\t]+?)(?:#\d+)?\t(?P<caption>.*)", re.DOTALL)
NUMBERED_TOKEN_LINE = re.compile(r"[^\t]+#\d+\t")
SEPARATOR_LINE = re.compile(r"sep=(.)", re.IGNORECASE)
"""The first line in which Excel names the delimiter."""


@dataclass(frozen=True)
class Options:
    """The form of the file; a value that is None is detected from the file."""

    encoding: str | None = None
    delimiter: str | None = None
    quotes: str | None = None
    image_column: str | None = None
    caption_column: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("delimiter", DELIMITERS), ("quotes", QUOTES)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ConfigError(f"data.options.{name}={value}: no such value", f"choose one of {', '.join(known)}")

    @property
    def image_keys(self) -> tuple[str, ...]:
        """The possible names of the image's column or key."""
        return (self.image_column,) if self.image_column else IMAGE_KEYS

    @property
    def caption_keys(self) -> tuple[str, ...]:
        """The possible names of the caption's column or key."""
        return (self.caption_column,) if self.caption_column else CAPTION_KEYS


@dataclass(frozen=True)
class CaptionFile:
    """The rows of a caption file, and a description of its form."""

    rows: tuple[CaptionRow, ...]
    form: str


def read_caption_file(path: Path, options: Options) -> CaptionFile:
    """Read a caption file. Raises ConfigError if its form is unknown, or if every row has a problem."""
    file = _parse(path, split_lines(read_text(path, options.encoding)), options)
    if not file.rows:
        raise ConfigError(f"{path}: it contains no caption", "give another file")
    if all(row.problem is not None for row in file.rows):
        first = file.rows[0]
        raise ConfigError(
            f"{path}, line {first.line}: {first.problem}", f"none of its {len(file.rows)} rows can be read"
        )
    return file


def _parse(path: Path, lines: Sequence[str], options: Options) -> CaptionFile:
    first = next((index for index, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise ConfigError(f"{path}: it contains no caption", "give another file")
    if path.suffix == ".jsonl":
        return CaptionFile(tuple(_parse_json_lines(path, lines, options)), "lines of JSON")
    if path.suffix == ".token" or NUMBERED_TOKEN_LINE.match(lines[first]):
        return CaptionFile(tuple(_parse_token_lines(lines)), "image#number<tab>caption")
    return _parse_table(path, lines, first, options)


# ----------------------------------------------------------------------------------------------------- image#0<tab>…
def _parse_token_lines(lines: Sequence[str]) -> Iterator[CaptionRow]:
    second_row = re.compile(rf"{IMAGE_NAME.pattern}(?:#\d+)?\t", re.IGNORECASE)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = TOKEN_LINE.fullmatch(line)
        if not match:
            image = find_image_name(line)
            yield CaptionRow(number, image and image.strip(' "'), problem="not of the form image.jpg#0<tab>caption")
        elif second_row.search(match["caption"]):
            problem = "two rows in one line; begin a new line for the second"
            yield CaptionRow(number, match["image"].strip(), problem=problem)
        else:
            yield CaptionRow(number, match["image"].strip(), (match["caption"],))


# -------------------------------------------------------------------------------------------------------- lines of JSON
def _parse_json_lines(path: Path, lines: Sequence[str], options: Options) -> Iterator[CaptionRow]:
    for line in read_json_lines(path, lines):
        if line.problem is not None:
            yield CaptionRow(line.number, None, problem=line.problem)
        else:
            yield _parse_json_row(line.number, line.value, options)


def _parse_json_row(number: int, row: Any, options: Options) -> CaptionRow:
    if not isinstance(row, dict):
        return CaptionRow(number, None, problem='not of the form {"file_name": …, "caption": …}')
    keys = {}
    for role, known in (("image", options.image_keys), ("caption", options.caption_keys)):
        present = [key for key in known if key in row]
        if not present:
            return CaptionRow(number, None, problem=f"it has no key for the {role}: {', '.join(known)}")
        if len(present) > 1:
            return CaptionRow(number, None, problem=_describe_choice(role, present))
        keys[role] = present[0]
    image, captions = row[keys["image"]], row[keys["caption"]]
    if not isinstance(image, str) or not image.strip():
        problem = f"its {keys['image']} is {describe_value(image)}, not the name of an image"
        return CaptionRow(number, None, problem=problem)
    texts = captions if isinstance(captions, list) else [captions]
    if other_values := [text for text in texts if not isinstance(text, str)]:
        problem = f"its {keys['caption']} is {describe_value(other_values[0])}, not a text"
        return CaptionRow(number, image.strip(), problem=problem)
    if any(map(has_surrogate, [image, *texts])):
        return CaptionRow(number, None, problem="half of a character (a lone surrogate, \\ud800 to \\udfff)")
    return CaptionRow(number, image.strip(), tuple(texts))


def _describe_choice(role: str, names: Sequence[str]) -> str:
    option = "picture_column" if role == "image" else "caption_column"
    return f"{' and '.join(names)} may both be the {role}; choose with data.options.{option}={names[0]}"


# ------------------------------------------------------------------------------------------------------------- a table
def _parse_table(path: Path, lines: Sequence[str], first: int, options: Options) -> CaptionFile:
    delimiter = DELIMITERS.get(options.delimiter or "")
    if separator := SEPARATOR_LINE.fullmatch(lines[first].strip("\n")):
        delimiter = delimiter or separator[1]
        first = next((index for index in range(first + 1, len(lines)) if lines[index].strip()), len(lines) - 1)
    layout = _detect_layout(path, lines, first, delimiter, options)
    rows, has_quotes = parse_table(lines, layout, options.quotes)
    name = next((name for name, mark in DELIMITERS.items() if mark == layout.delimiter), repr(layout.delimiter))
    quotes = "cells in quotes" if has_quotes else "no quotes"
    return CaptionFile(tuple(rows), f"a table, delimiter {name}, {quotes}{'' if layout.heading else ', no heading'}")


def _detect_layout(path: Path, lines: Sequence[str], first: int, delimiter: str | None, options: Options) -> Layout:
    """Find the delimiter and the two columns in the heading, or in the first row if there is no heading."""
    heading = lines[first]
    image_keys = [key.lower() for key in options.image_keys]
    caption_keys = [key.lower() for key in options.caption_keys]
    for mark in [delimiter] if delimiter else DELIMITERS.values():
        cells = [cell.strip().strip('"').strip().lower() for cell in heading.split(mark)]
        if not set(cells) & {*image_keys} or not set(cells) & {*caption_keys}:
            continue
        if repeated := next((cell for cell in cells if cell and cells.count(cell) > 1), None):
            raise ConfigError(f"{path}, line {first + 1}: the column '{repeated}' is listed twice", "rename one")
        return Layout(
            delimiter=mark,
            width=len(cells),
            image=_find_column(path, first, cells, image_keys, "image"),
            caption=_find_column(path, first, cells, caption_keys, "caption"),
            start=first + 1,
            heading=True,
        )
    row = re.match(rf'\s*"?[^\t|;"]*?{IMAGE_NAME.pattern}"?\s*([,;\t|])', heading, re.IGNORECASE)
    if not row or options.image_column or options.caption_column:
        raise ConfigError(
            f"{path}, line {first + 1}: no heading with a column for the image ({', '.join(image_keys)}) and one for "
            f"the caption ({', '.join(caption_keys)})",
            "rename them, or name them with data.options.picture_column=… and data.options.caption_column=…",
        )
    return Layout(delimiter or row[1], 2, 0, 1, first, False)


def _find_column(path: Path, first: int, cells: Sequence[str], keys: Sequence[str], role: str) -> int:
    matches = [cell for cell in cells if cell in keys]
    if len(matches) > 1:
        raise ConfigError(f"{path}, line {first + 1}: {_describe_choice(role, matches)}")
    return cells.index(matches[0])
