"""The folder of a data set: its files, the images that annotations name, and digests."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from visionbench.core import ConfigError
from visionbench.datafiles.messages import escape_unprintable


def find_folder(root: str, name: str) -> Path:
    """Return the folder of the data set `name`. Raises ConfigError if it does not exist."""
    path = Path(root).expanduser()
    if not path.is_dir():
        raise ConfigError(
            f"data.root={root}: there is no such folder", f"data={name} is read from one, see visionbench docs data"
        )
    return path


def find_file(root: Path, candidates: Sequence[str], expected: str) -> Path:
    """Return the first of these paths below `root` that exists. Raises ConfigError with the `expected` layout."""
    path = next((root / name for name in candidates if (root / name).exists()), None)
    if path is None:
        raise ConfigError(
            f"data.root={root}: {candidates[0]} is not in it", f"expected {expected}, see visionbench docs data"
        )
    return path


def locate_image(name: str, places: Iterable[Path], root: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the first of the places that is a file, or the first place if none is, and the problems of the name.

    A name is a problem if it cannot be printed, is a URL or an absolute path, or leads out of `root`.
    """
    if not name.isprintable() and escape_unprintable(name) != name:
        return root, ("a file name with characters that cannot be printed",)
    if "://" in name:
        return root, ("a file name that is a URL: write its path below the folder of images",)
    if re.match(r"[/\\]|[A-Za-z]:[/\\]", name):
        return root, ("a file name that is an absolute path: write its path below the folder of images",)
    paths = [os.path.normpath(place) for place in places]
    path = next(filter(os.path.isfile, paths), paths[0])
    if not os.path.abspath(path).startswith(os.path.join(os.path.abspath(root), "")):
        return root, ("a file name that leads out of the data set's folder",)
    return Path(path), ()


def spell_name(name: str) -> Iterator[str]:
    """Yield the spellings of a file's name: unchanged, with slashes for backslashes, and in two Unicode forms."""
    slashed = name.replace("\\", "/")
    yield from dict.fromkeys([name, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))])


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of the digests of several files, in their order."""
    return hashlib.sha256("".join(digest_file(path) for path in paths).encode()).hexdigest()


def check_counts(**options: int | None) -> None:
    """Raise ConfigError for an option of the data set that is a number below 1."""
    for name, value in options.items():
        if value is not None and value < 1:
            raise ConfigError(f"data.options.{name}={value}: must be at least 1")
