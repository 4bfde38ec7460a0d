"""Read a text file strictly: its encoding, its byte order mark, and its lines."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from visionbench.core import ConfigError

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, because it begins with UTF-16's mark
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
LIKELY_ENCODINGS = ("gb18030", "shift_jis", "cp1252", "latin-1")
"""Encodings that are suggested for a file that is not UTF-8, if they can decode it."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""The first bytes of a Git LFS pointer."""


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file is a Git LFS pointer, which replaces a file whose content was not fetched."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def read_text(path: Path, encoding: str | None = None) -> str:
    """Return the text of a file, decoded by its byte order mark, else by `encoding`, else as UTF-8.

    Raises ConfigError if the file cannot be read, or contains an undecodable byte or a NUL, with the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})", "give a file that can be read") from None
    if data.startswith(LFS_POINTER):
        raise ConfigError(f"{path}: a Git LFS pointer, not the file itself", "run 'git lfs pull' in its repository")
    mark = next((mark for mark in BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    used = BYTE_ORDER_MARKS[mark] if mark else (encoding or "utf-8")
    try:
        text = data[len(mark) :].decode(used)
    except LookupError:
        raise ConfigError(
            f"data.options.encoding={encoding}: no such encoding", "give one such as utf-8, cp1252"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(_describe_undecodable(path, data[len(mark) :], used, error)) from None
    if "\0" in text:
        line = len(split_lines(text[: text.index("\0")]) or [""])
        raise ConfigError(
            f"{path}, line {line}: a NUL character",
            "if the file is UTF-16, give data.options.encoding=utf-16-le or utf-16-be, else remove it",
        )
    return text


def split_lines(text: str) -> list[str]:
    """Return the lines of a text without their ends: LF, CR LF, or CR in a text without LF.

    Other separators (form feed, U+0085, U+2028) are part of a line. The end of the last line begins no new line.
    """
    lines = re.split(r"\r?\n", text) if "\n" in text else text.split("\r")
    return lines[:-1] if lines[-1] == "" else lines


def _describe_undecodable(path: Path, data: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    line = data[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
    likely = [name for name in LIKELY_ENCODINGS if name != encoding and _can_decode(data, name)]
    suggested = [name for name in likely[:-1] or likely if name != encoding]
    suggestion = f"; it may be {' or '.join(suggested)}: give data.options.encoding={suggested[0]}" if suggested else ""
    return (
        f"{path}, line {line}: not {encoding.upper()} (byte 0x{data[error.start]:02x}){suggestion}"
        f"{', or' if suggestion else ';'} save the file as UTF-8"
    )


def _can_decode(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
