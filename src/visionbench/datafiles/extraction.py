"""Extract the images of an archive into a cache, once: in a folder that the content of the archive names.

The folder appears complete or not at all. It has the images, and `index.jsonl` with one line for each row of the
archive.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

from visionbench.core import ConfigError
from visionbench.datafiles.folder_listing import is_image
from visionbench.datafiles.json_file import file_version

VERSION = "1"
"""Version of the extracted form: increase it if the same archive would give other files."""
INDEX = "index.jsonl"
IMAGES = "images"
MIB = 2**20
MOST_IMAGE_BYTES = 256 * MIB
"""The largest encoded image that is extracted."""
LARGEST_EXPANSION, ALLOWANCE = 20, 64 * MIB
"""A compressed archive may expand to this multiple of its size, plus the allowance. Images hardly compress."""

Row = dict[str, Any]
"""One row of an archive, as JSON stores it."""


class ImageWriter:
    """Writes the images of one archive into a new folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        (folder / IMAGES).mkdir(parents=True)

    def add(self, content: bytes, name: str) -> str:
        """Write an encoded image with the suffix of its name, and return its path below the folder."""
        suffix = PurePath(name).suffix.lower() if is_image(PurePath(name)) else ""
        path = f"{IMAGES}/{self.count:06d}{suffix}"
        (self.folder / path).write_bytes(content)
        self.count += 1
        return path


def most_expanded_bytes(archive: Path) -> int:
    """Return the number of bytes that the content of an archive may have."""
    return LARGEST_EXPANSION * archive.stat().st_size + ALLOWANCE


def extract(
    archive: Path, digest: str, cache_dir: str, read: Callable[[Path, ImageWriter], Iterable[Row]]
) -> tuple[Path, list[Row]]:
    """Return the folder with the images of an archive, and the rows that `read` gives. The first call extracts them.

    `digest` is the SHA-256 of the archive. If two processes extract at once, the first result is kept. Raises
    ConfigError if the cache cannot be written.
    """
    folder = Path(cache_dir) / "extracted" / f"{digest[:16]}-{VERSION}"
    if not folder.exists():
        _extract(archive, folder, read)
    index = folder / INDEX
    try:
        return folder, _read_index(index, file_version(index))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{index}: cannot be read ({error})", f"delete {folder} to extract it again") from error


def _extract(archive: Path, folder: Path, read: Callable[[Path, ImageWriter], Iterable[Row]]) -> None:
    """Extract beside the final folder, and rename it."""
    unfinished = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        writer = ImageWriter(unfinished)
        with (unfinished / INDEX).open("w", encoding="utf-8") as index:
            for row in read(archive, writer):
                index.write(json.dumps(row) + "\n")
        try:
            os.rename(unfinished, folder)
        except OSError:
            if not folder.exists():
                raise
    except OSError as error:
        raise ConfigError(
            f"data.options.cache_dir: {archive.name} cannot be extracted to {folder.parent} "
            f"({error.strerror or error})",
            "free disk space, or give another folder",
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@lru_cache(maxsize=1024)
def _read_index(path: Path, version: tuple[int, int]) -> list[Row]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
