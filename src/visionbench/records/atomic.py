"""Writing of files such that a full disk or a kill leaves no file that is empty or incomplete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


def write(path: Path, content: str | bytes) -> None:
    """Write a file completely, or leave the earlier file unchanged. Text is stored in UTF-8.

    The content is written to a draft in the same folder, which then replaces the file. If this fails, the draft is
    removed. A device or a pipe, such as /dev/stdout, is written directly. Raises OSError that names the file.
    """
    encoded = content.encode("utf-8") if isinstance(content, str) else content
    with _naming(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(encoded)
            return
        target = path.resolve()  # a symbolic link stays
        draft = target.with_name(f".{target.name}.{uuid4().hex}.draft")
        try:
            with draft.open("xb") as file:
                file.write(encoded)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def append_line(path: Path, line: str) -> None:
    """Append a line to a file in UTF-8. The line is on disk when this returns.

    A last line without a line end, which a killed process left, is removed first. If the line cannot be written, the
    file has the same lines as before. Raises OSError that names the file.
    """
    with _naming(path), path.open("ab+", buffering=0) as file:
        end = _end_of_last_line(file.fileno())
        os.ftruncate(file.fileno(), end)
        rest = memoryview(f"{line}\n".encode())
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                os.ftruncate(file.fileno(), end)
            raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the name of the file to an OSError, which has none if a write fails, and replace the name of a draft."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _end_of_last_line(descriptor: int, block: int = 65536) -> int:
    """Return the size of a file without the bytes after its last line end."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - block)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
