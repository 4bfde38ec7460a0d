"""Read a text file strictly: its encoding, its byte order mark, and lines that end at LF or CR and nowhere else."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from visionbench.registry import ConfigError

MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""Byte order marks, and the encodings that they stand for."""
LIKELY = ("gb18030", "shift_jis", "cp1252", "latin-1")
"""Encodings that are named where a file is not UTF-8, as far as they can read it."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""A Git LFS pointer begins so."""


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer, which stands where the file's own bytes were not fetched."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def read_text(path: Path, encoding: str | None = None) -> str:
    """The text of a file, by its byte order mark, else in `encoding`, else in UTF-8.

    Raises ConfigError where the file cannot be read, or naming the line with a byte that cannot be, or with a NUL.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a file that can be read") from None
    if data.startswith(LFS_POINTER):
        raise ConfigError(f"{path}: a Git LFS pointer, not the file itself; run 'git lfs pull' in its repository")
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    used = MARKS[mark] if mark else (encoding or "utf-8")
    try:
        text = data[len(mark) :].decode(used)
    except LookupError:
        raise ConfigError(
            f"data.options.encoding={encoding}: no such encoding; give one such as utf-8, cp1252"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(_undecodable(path, data[len(mark) :], used, error)) from None
    if "\0" in text:
        line = len(lines(text[: text.index("\0")]) or [""])
        raise ConfigError(
            f"{path}, line {line}: a NUL character; if the file is UTF-16, give data.options.encoding=utf-16-le or "
            "utf-16-be, else remove it"
        )
    return text


def lines(text: str) -> list[str]:
    """The lines of a text without their ends: LF, CR LF, and CR in a text that has no LF.

    Other characters that end a line elsewhere (form feed, U+0085, U+2028) belong to the line. An end after the last
    line begins no other.
    """
    found = re.split(r"\r?\n", text) if "\n" in text else text.split("\r")
    return found[:-1] if found[-1] == "" else found


def _undecodable(path: Path, data: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    line = data[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
    likely = [name for name in LIKELY if name != encoding and _reads(data, name)]
    others = [name for name in likely[:-1] or likely if name != encoding]
    may_be = f"; it may be {' or '.join(others)}: give data.options.encoding={others[0]}" if others else ""
    return (
        f"{path}, line {line}: not {encoding.upper()} (byte 0x{data[error.start]:02x}){may_be}"
        f"{', or' if may_be else ';'} save the file as UTF-8"
    )


def _reads(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
