"""Reading files that may be damaged. Every fault is a ConfigError of one line that names the file."""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError, first_line

MOST_MIB = 512
"""The largest file that is read, in MiB. The files of a run are much smaller."""
MAY_BE_INFINITE = re.compile(r"[eE]\+?\d{3}")
"""An exponent with which a number may be too large for a float."""


def check_file(path: Path, place: str) -> None:
    """Raise ConfigError if a path is not a regular file of a usual size, such as a pipe, which would block."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{place} cannot be read ({_cause(error)})") from error
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{place} cannot be read (it is not a file)")
    if status.st_size > MOST_MIB * 2**20:
        raise ConfigError(f"{place} cannot be read (it is larger than {MOST_MIB} MiB)")


def text_file(path: Path, place: str) -> str:
    """Read a text file in UTF-8. Raises ConfigError if it cannot be read."""
    check_file(path, place)
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{place} is not UTF-8 text ({first_line(error)})") from error
    except OSError as error:
        raise ConfigError(f"{place} cannot be read ({_cause(error)})") from error


def lines_of(path: Path, place: str) -> list[str]:
    """Read the lines of a file and the rest after the last line end. A byte that is not UTF-8 becomes `\\ufffd`.

    Raises ConfigError if the file cannot be read.
    """
    check_file(path, place)
    try:
        return path.read_bytes().decode("utf-8", "replace").split("\n")
    except OSError as error:
        raise ConfigError(f"{place} cannot be read ({_cause(error)})") from error


def json_file(path: Path, place: str) -> Any:
    """Read a JSON file. Raises ConfigError if it cannot be read or is not valid."""
    text = text_file(path, place)
    if not text.strip():
        raise ConfigError(f"{place} is empty")
    return parse_json(text, place)


@contextmanager
def parquet_file(path: Path, place: str, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Read a Parquet file, and yield its table. Every error within the context becomes a ConfigError.

    Pages that have a checksum are compared with it.
    """
    from pyarrow.parquet import ParquetFile

    check_file(path, place)
    try:
        with ParquetFile(path, page_checksum_verification=True) as file:
            yield file.read(columns=None if columns is None else list(columns), use_threads=False)
    except (Exception, MemoryError) as error:  # a damaged file makes Arrow raise errors of many types
        raise ConfigError(f"{place} cannot be read ({first_line(error) or type(error).__name__})") from error


def parse_json(text: str, place: str) -> Any:
    """Parse JSON. Raises ConfigError if it is not valid, also for NaN and for numbers that are not finite."""
    try:
        parse_float = _finite if MAY_BE_INFINITE.search(text) else None  # a function of Python for each number is slow
        return json.loads(text, parse_constant=_refuse_constant, parse_float=parse_float)
    except RecursionError as error:
        raise ConfigError(f"{place} is not valid JSON (it is nested too deeply)") from error
    except ValueError as error:
        raise ConfigError(f"{place} is not valid JSON ({first_line(error)})") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def _cause(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or first_line(error)
