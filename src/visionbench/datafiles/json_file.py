"""Reading a JSON file that comes from elsewhere: every way in which it is not one JSON value is one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from visionbench.datafiles.text_file import LFS_POINTER
from visionbench.registry import ConfigError

OTHER_FORMS = {
    LFS_POINTER: "a Git LFS pointer, not the file itself: run 'git lfs pull' there",
    b"\x1f\x8b": "packed by gzip: unpack it with gunzip",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"BZh": "packed by bzip2: unpack it with bunzip2",
    b"\xfd7zXZ\x00": "packed by xz: unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it with unzstd",
    b"<": "a page of HTML or XML, not JSON: fetch the file itself",
}
"""What other files begin with, and what to do with them."""
SHOWN = 40
"""So many characters of a value are shown in a message."""


def read(path: Path) -> Any:
    """The value that a file holds, in UTF-8, UTF-16 or UTF-32; read once as long as the file stays the same.

    Raises ConfigError, also where an object has one key twice.
    """
    try:
        at = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    return _read(path, (at.st_mtime_ns, at.st_size))


@lru_cache(maxsize=4)
def _read(path: Path, changed: tuple[int, int]) -> Any:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if not content.strip():
        raise ConfigError(f"{path}: an empty file ({len(content)} bytes): bring it again")
    for start, form in OTHER_FORMS.items():
        if content.lstrip()[:64].startswith(start):
            raise ConfigError(f"{path}: {form}")
    twice: list[str] = []
    try:
        found = json.loads(content, object_pairs_hook=lambda pairs: _object(pairs, twice))
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
            raise ConfigError(
                f"{path}: not JSON: it ends in the middle, after {len(content)} bytes: bring it again whole"
            ) from None
        raise ConfigError(f"{path}: not JSON ({error})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not JSON: its bytes are no {error.encoding} ({error.reason})") from None
    except ValueError as error:  # a number of more digits than Python reads
        raise ConfigError(f"{path}: not JSON ({error})") from None
    except RecursionError:
        raise ConfigError(f"{path}: not annotations: lists or objects are nested too deeply in it") from None
    if twice:
        more = f", and {len(twice) - 1} more" if len(twice) > 1 else ""
        raise ConfigError(f"{path}: an object has a key twice: {twice[0]}{more}; keep one of the two")
    return found


def _object(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    """An object; a key that it has twice is noted."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        key = next(name for name in names if names.count(name) > 1)
        holder = next(
            (
                f" in the object whose {name} is {shown(found[name])}"
                for name in ("id", "filename")
                if name in found and name != key
            ),
            "",
        )
        twice.append(f"{shown(key)}{holder}")
    return found


def shown(value: Any) -> str:
    """A value as JSON writes it, in one line and cut where it is long."""
    try:
        text = json.dumps(value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of more digits than Python writes
        return kind(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def kind(value: Any) -> str:
    """What a value of JSON is, as in 'it is a list'."""
    names: Mapping[type, str] = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
    return names[type(value)]


def whole(value: Any) -> int | None:
    """The whole number that a value means: 7, 7.0 and "7" alike; None for anything else, true and false too."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 1000:
        return int(value)
    return None


def key(value: Any) -> int | str | None:
    """An id: the whole number that it means, else the text that it is; None for what cannot be an id."""
    number = whole(value)
    if number is not None:
        return number
    return value if isinstance(value, str) and value.strip() else None
