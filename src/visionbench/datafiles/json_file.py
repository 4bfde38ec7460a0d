"""Read a JSON file from another source, and report every damage in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError
from visionbench.datafiles.text_file import LFS_POINTER

OTHER_FORMATS = {
    LFS_POINTER: "a Git LFS pointer, not the file itself: run 'git lfs pull' in its repository",
    b"\x1f\x8b": "compressed by gzip: unpack it with gunzip",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"BZh": "compressed by bzip2: unpack it with bunzip2",
    b"\xfd7zXZ\x00": "compressed by xz: unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it with unzstd",
    b"<": "a page of HTML or XML, not JSON: download the file itself",
}
"""The first bytes of files that are not JSON, with the format and the remedy."""
CHARACTERS_SHOWN = 40
"""Number of characters of a value that a message shows."""


def read_json(path: Path) -> Any:
    """Return the value in a JSON file in UTF-8, UTF-16 or UTF-32. The file is read only once, unless it changes.

    Raises ConfigError if the file cannot be read, is not JSON, or has an object with a repeated key.
    """
    try:
        return _read(path, file_version(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})", "give a file that can be read") from None


def file_version(path: Path) -> tuple[int, int]:
    """Return the time of the last change of a file and its size, which identify its content. Raises OSError."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4)
def _read(path: Path, version: tuple[int, int]) -> Any:
    content = path.read_bytes()
    if not content.strip():
        raise ConfigError(f"{path}: an empty file ({len(content)} bytes): download or copy it again")
    for start, problem in OTHER_FORMATS.items():
        if content.lstrip()[:64].startswith(start):
            raise ConfigError(f"{path}: {problem}")
    repeated: list[str] = []
    try:
        value = json.loads(content, object_pairs_hook=lambda pairs: _make_object(pairs, repeated))
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
            raise ConfigError(
                f"{path}: not JSON: it ends early, after {len(content)} bytes: download or copy the complete file again"
            ) from None
        raise ConfigError(f"{path}: not JSON ({error})", "correct it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not JSON: its bytes are not {error.encoding} ({error.reason})", "save it as UTF-8"
        ) from None
    except ValueError as error:  # a number with more digits than Python reads
        raise ConfigError(f"{path}: not JSON ({error})", "correct it") from None
    except RecursionError:
        raise ConfigError(
            f"{path}: not annotations: its lists or objects are nested too deeply", "give the annotation file"
        ) from None
    if repeated:
        more = f", and {len(repeated) - 1} more" if len(repeated) > 1 else ""
        raise ConfigError(f"{path}: an object has a key twice: {repeated[0]}{more}", "keep one of the two")
    return value


def _make_object(pairs: list[tuple[str, Any]], repeated: list[str]) -> dict[str, Any]:
    """Return an object; a repeated key is added to `repeated`, with the object that contains it."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        key = next(name for name in names if names.count(name) > 1)
        identifier = next((name for name in ("id", "filename") if name in value and name != key), None)
        place = f" in the object whose {identifier} is {show(value[identifier])}" if identifier else ""
        repeated.append(f"{show(key)}{place}")
    return value


def show(value: Any) -> str:
    """Return a value as JSON on one line, shortened if it is long."""
    try:
        text = json.dumps(value)
    except (RecursionError, ValueError):  # nested too deeply, or a number with more digits than Python writes
        return describe_type(value)
    return text if len(text) <= CHARACTERS_SHOWN else f"{text[:CHARACTERS_SHOWN]}…"


def describe_type(value: Any) -> str:
    """Return the type of a JSON value in words, such as `a list`."""
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


def parse_integer(value: Any) -> int | None:
    """Return the whole number that 7, 7.0 or "7" denotes, or None for any other value, including true and false."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 1000:
        return int(value)
    return None


def parse_id(value: Any) -> int | str | None:
    """Return an id: a whole number, else a text, or None for a value that cannot be an id."""
    number = parse_integer(value)
    if number is not None:
        return number
    return value if isinstance(value, str) and value.strip() else None
