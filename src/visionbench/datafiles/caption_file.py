"""Read a file of captions: a table, lines of JSON, or lines of the form `picture.jpg#0<tab>caption`.

A row that is not of the file's form carries a fault with its file and line. It is never dropped, cut or mended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionbench.datafiles.caption_table import NAME, Layout, rows_of_table
from visionbench.datafiles.text_file import lines, read_text
from visionbench.registry import ConfigError

PICTURE_KEYS = ("file_name", "image", "filename", "image_name")
CAPTION_KEYS = ("caption", "captions", "text", "comment")
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
QUOTES = ("csv", "text")
TOKEN = re.compile(r"(?P<picture>[^\t]+?)(?:#\d+)?\t(?P<caption>.*)", re.DOTALL)
NUMBERED = re.compile(r"[^\t]+#\d+\t")
SEPARATOR_LINE = re.compile(r"sep=(.)", re.IGNORECASE)
"""The first line that Excel writes and reads to name the delimiter."""


@dataclass(frozen=True)
class Options:
    """What the file is said to be; each is found in the file where it is None."""

    encoding: str | None = None
    delimiter: str | None = None
    quotes: str | None = None
    picture_column: str | None = None
    caption_column: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("delimiter", DELIMITERS), ("quotes", QUOTES)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ConfigError(f"data.options.{name}={value}: no such value; there are: {', '.join(known)}")


@dataclass(frozen=True)
class Row:
    """One row: a picture's name and its captions, or a fault; the name is None where the fault hides it."""

    line: int
    picture: str | None
    captions: tuple[str, ...] = ()
    fault: str | None = None


@dataclass(frozen=True)
class CaptionFile:
    """The rows of a file, and its form in words."""

    rows: tuple[Row, ...]
    form: str


def read(path: Path, options: Options) -> CaptionFile:
    """Read a file of captions. Raises ConfigError where it is of no form, or none of its rows is sound."""
    found = _read(path, lines(read_text(path, options.encoding)), options)
    sound = [row for row in found.rows if row.fault is None]
    if not sound and found.rows:
        first = found.rows[0]
        raise ConfigError(f"{path}, line {first.line}: {first.fault}; none of its {len(found.rows)} rows can be read")
    if not sound:
        raise ConfigError(f"{path}: no caption in it")
    return found


def _read(path: Path, text: Sequence[str], options: Options) -> CaptionFile:
    first = next((at for at, line in enumerate(text) if line.strip()), None)
    if first is None:
        raise ConfigError(f"{path}: no caption in it")
    if path.suffix == ".jsonl":
        return CaptionFile(tuple(_json_rows(path, text, options)), "lines of JSON")
    if path.suffix == ".token" or NUMBERED.match(text[first]):
        return CaptionFile(tuple(_token_rows(text)), "picture#number<tab>caption")
    return _table(path, text, first, options)


# --------------------------------------------------------------------------------------------------- picture#0<tab>…
def _token_rows(text: Sequence[str]) -> Iterator[Row]:
    merged = re.compile(rf"{NAME.pattern}(?:#\d+)?\t", re.IGNORECASE)
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        found = TOKEN.fullmatch(line)
        if not found:
            yield Row(number, _name_of(line), fault="not of the form picture.jpg#0<tab>caption")
        elif merged.search(found["caption"]):
            yield Row(number, found["picture"].strip(), fault="two rows in one line; begin the second on its own")
        else:
            yield Row(number, found["picture"].strip(), (found["caption"],))


def _name_of(line: str) -> str | None:
    """The picture's name at the start of a line that is of no form."""
    found = re.match(rf"[^\t,;|]*?{NAME.pattern}(?![\w.])", line, re.IGNORECASE)
    return found[0].strip(' "') if found else None


# -------------------------------------------------------------------------------------------------------- lines of JSON
def _json_rows(path: Path, text: Sequence[str], options: Options) -> Iterator[Row]:
    pictures = (options.picture_column,) if options.picture_column else PICTURE_KEYS
    captions = (options.caption_column,) if options.caption_column else CAPTION_KEYS
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            why = f"not JSON ({error})" if isinstance(error, ValueError) else "nested too deeply"
            yield Row(number, None, fault=why)
            continue
        if isinstance(row, list) and len(text) == 1:
            raise ConfigError(f"{path}, line 1: one list; write each of its objects in a line of its own")
        yield _json_row(number, row, pictures, captions)


def _json_row(number: int, row: Any, pictures: Sequence[str], captions: Sequence[str]) -> Row:
    if not isinstance(row, dict):
        return Row(number, None, fault='not of the form {"file_name": …, "caption": …}')
    picture = [key for key in pictures if key in row]
    caption = [key for key in captions if key in row]
    for what, keys, option, known in (
        ("picture", picture, "picture_column", pictures),
        ("caption", caption, "caption_column", captions),
    ):
        if not keys:
            return Row(number, None, fault=f"it has none of the keys of a {what}: {', '.join(known)}")
        if len(keys) > 1:
            fault = f"{' and '.join(keys)} may both be the {what}; choose with data.options.{option}={keys[0]}"
            return Row(number, None, fault=fault)
    name, said = row[picture[0]], row[caption[0]]
    if not isinstance(name, str) or not name.strip():
        return Row(number, None, fault=f"its {picture[0]} is {_kind(name)}, not the name of a picture")
    texts = said if isinstance(said, list) else [said]
    if wrong := [one for one in texts if not isinstance(one, str)]:
        return Row(number, name.strip(), fault=f"its {caption[0]} is {_kind(wrong[0])}, not a text")
    if any("\ud800" <= letter <= "\udfff" for text in [name, *texts] for letter in text):
        return Row(number, None, fault="half of a character (a lone surrogate, \\ud800 to \\udfff)")
    return Row(number, name.strip(), tuple(texts))


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", bool: "true or false", type(None): "null", str: "empty"}
    return kinds.get(type(value), f"the number {value}")


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key '{key}' stands there twice")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no value of JSON")


# ------------------------------------------------------------------------------------------------------------- a table
def _table(path: Path, text: Sequence[str], first: int, options: Options) -> CaptionFile:
    delimiter = DELIMITERS.get(options.delimiter or "")
    if marked := SEPARATOR_LINE.fullmatch(text[first].strip("\n")):
        delimiter = delimiter or marked[1]
        first = next((at for at in range(first + 1, len(text)) if text[at].strip()), len(text) - 1)
    layout = _layout(path, text, first, delimiter, options)
    found, quoted = rows_of_table(text, layout, options.quotes)
    name = next((name for name, mark in DELIMITERS.items() if mark == layout.delimiter), repr(layout.delimiter))
    quotes = "cells in quotes" if quoted else "no quotes"
    rows = tuple(Row(one.line, one.picture, (one.caption,) if one.fault is None else (), one.fault) for one in found)
    return CaptionFile(rows, f"a table, delimiter {name}, {quotes}{'' if layout.heading else ', no heading'}")


def _layout(path: Path, text: Sequence[str], first: int, delimiter: str | None, options: Options) -> Layout:
    """Find the delimiter and the two columns in the heading, or in the first row where there is none."""
    heading = text[first]
    pictures = (options.picture_column.lower(),) if options.picture_column else PICTURE_KEYS
    captions = (options.caption_column.lower(),) if options.caption_column else CAPTION_KEYS
    for mark in [delimiter] if delimiter else DELIMITERS.values():
        cells = [cell.strip().strip('"').strip().lower() for cell in heading.split(mark)]
        if not set(cells) & {*pictures} or not set(cells) & {*captions}:
            continue
        if twice := next((cell for cell in cells if cell and cells.count(cell) > 1), None):
            raise ConfigError(f"{path}, line {first + 1}: the column '{twice}' stands there twice; rename one")
        return Layout(
            delimiter=mark,
            width=len(cells),
            picture=_column(path, first, cells, pictures, "picture"),
            caption=_column(path, first, cells, captions, "caption"),
            start=first + 1,
            heading=True,
        )
    begun = re.match(rf'\s*"?[^\t|;"]*?{NAME.pattern}"?\s*([,;\t|])', heading, re.IGNORECASE)
    if not begun or options.picture_column or options.caption_column:
        raise ConfigError(
            f"{path}, line {first + 1}: no heading with a column for the picture ({', '.join(pictures)}) and one for "
            f"the caption ({', '.join(captions)}); rename them, or name them with data.options.picture_column=… and "
            "data.options.caption_column=…"
        )
    return Layout(delimiter or begun[1], 2, 0, 1, first, False)


def _column(path: Path, first: int, cells: Sequence[str], keys: Sequence[str], what: str) -> int:
    found = [cell for cell in cells if cell in keys]
    if len(found) > 1:
        raise ConfigError(
            f"{path}, line {first + 1}: {' and '.join(found)} may both be the {what}; choose with "
            f"data.options.{what}_column={found[0]}"
        )
    return cells.index(found[0])
