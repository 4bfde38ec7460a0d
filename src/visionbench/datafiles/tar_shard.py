"""Read a shard of a webdataset: a tar file in which the members of a sample share the name before the first dot.

Nothing is written to a path that the archive names. A shard with a member that is not a plain file below the shard, or
that is cut or damaged, is refused completely, because a reader of tar files ends at the first block that it cannot
read, without an error.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from visionbench.core import ConfigError
from visionbench.datafiles.extraction import MIB, MOST_IMAGE_BYTES, ImageWriter, Row, most_expanded_bytes
from visionbench.datafiles.folder_listing import is_ignored, is_image
from visionbench.datafiles.json_file import OTHER_FORMATS
from visionbench.datafiles.messages import escape_unprintable

SUFFIXES = (".tar", ".tar.gz", ".tgz")
GZIP = b"\x1f\x8b"
TEXTS = frozenset({"txt", "text", "caption", "cls", "json"})
"""The last suffixes of members with annotations. Other members that are not images are ignored."""
MOST_TEXT_BYTES = 16 * MIB


def is_shard(path: Path) -> bool:
    """Return whether a file has the suffix of a shard."""
    return path.name.lower().endswith(SUFFIXES) and not is_ignored(path.name)


def read_shard(path: Path, writer: ImageWriter) -> Iterator[Row]:
    """Yield the samples of a shard in its order, and write their images.

    A row has `key`, `images` (path by suffix), `texts` (text or JSON value by suffix) and `problems`. Raises
    ConfigError, with the name of the member, if the shard is damaged, unsafe or too large.
    """
    member_name = "its start"
    try:
        with _open(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            row: Row | None = None
            for member in archive:
                member_name = f"'{escape_unprintable(member.name)}'"
                _refuse_unsafe(path, member, member_name)
                name = _sample_name(member)
                if name is None:
                    continue
                key, suffix = name
                if row is None or row["key"] != key:
                    if row is not None:
                        yield row
                    row = {"key": key, "images": {}, "texts": {}, "problems": []}
                _add(row, suffix, archive, member, writer)
            _check_end(path, file, archive, member_name)
            if row is not None:
                yield row
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, OverflowError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise ConfigError(
            f"{path}: damaged after {member_name} ({reason})", "download or copy the complete shard again"
        ) from None


class _Bounded(io.RawIOBase):
    """A compressed file whose content may have only a number of bytes."""

    def __init__(self, path: Path, file: gzip.GzipFile) -> None:
        self.path, self.file, self.most = path, file, most_expanded_bytes(path)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes. Raises ConfigError if there are too many."""
        content = self.file.read(self.most + 1 if size < 0 else min(size, self.most + 1))
        self._check(self.file.tell())
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position from the start of the content."""
        assert whence == 0
        self._check(offset)
        return self.file.seek(offset)

    def tell(self) -> int:
        """Return the position."""
        return self.file.tell()

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        super().close()

    def _check(self, position: int) -> None:
        if position > self.most:
            raise ConfigError(
                f"{self.path}: it expands to more than {self.most / MIB:,.0f} MiB, from "
                f"{self.path.stat().st_size / MIB:,.1f} MiB: a decompression bomb?",
                "unpack it, and give the tar file if it is correct",
            )


def _open(path: Path) -> IO[bytes]:
    """Open a shard, which may be compressed by gzip. Raises ConfigError if it is in another format."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if start.startswith(GZIP):
            return _Bounded(path, gzip.open(path))  # type: ignore[return-value]
        for first, problem in OTHER_FORMATS.items():
            if start.startswith(first) and first != b"<":
                raise ConfigError(f"{path}: {problem}")
        return path.open("rb")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})", "make it readable") from None


def _refuse_unsafe(path: Path, member: tarfile.TarInfo, name: str) -> None:
    """Raise ConfigError for a member that is not a plain file or folder below the shard, or that is too large."""
    picture = is_image(PurePosixPath(member.name))
    limit = MOST_IMAGE_BYTES if picture else MOST_TEXT_BYTES
    problem = None
    if member.issym() or member.islnk():
        problem = "is a link"
    elif member.issparse():
        problem = "is a sparse file"
    elif not (member.isreg() or member.isdir()):
        problem = "is a device, not a file"
    elif re.match(r"[/\\]|[A-Za-z]:", member.name):
        problem = "has an absolute path"
    elif ".." in re.split(r"[/\\]", member.name):
        problem = "leads out of the shard"
    elif member.size < 0:
        problem = "has a negative size"
    elif member.size > limit and (picture or member.name.rpartition(".")[2].lower() in TEXTS):
        problem = f"has {member.size / MIB:,.0f} MiB, more than {limit / MIB:,.0f} MiB"
    if problem:
        raise ConfigError(f"{path}: its member {name} {problem}", "pack only the files of the samples")


def _sample_name(member: tarfile.TarInfo) -> tuple[str, str] | None:
    """Return the key of a member's sample and the suffix of the member, or None if it belongs to no sample."""
    parts = [part for part in member.name.split("/") if part != "."]
    if not member.isreg() or any(map(is_ignored, parts)) or not parts:
        return None
    key, dot, suffix = parts[-1].partition(".")
    return (escape_unprintable("/".join([*parts[:-1], key])), suffix.lower()) if dot and suffix else None


def _add(row: Row, suffix: str, archive: tarfile.TarFile, member: tarfile.TarInfo, writer: ImageWriter) -> None:
    """Add a member to its sample."""
    last = suffix.rpartition(".")[2]
    picture = is_image(PurePosixPath(f"name.{last}"))
    if not picture and last not in TEXTS:
        return
    if suffix in row["images"] or suffix in row["texts"]:
        row["problems"].append(f"two members .{suffix}")
        return
    file = archive.extractfile(member)
    assert file is not None
    content = file.read()
    if picture:
        row["images"][suffix] = writer.add(content, f"name.{last}")
        return
    try:
        text = content.decode("utf-8-sig")
        row["texts"][suffix] = _parse_json(text) if last == "json" else text
    except UnicodeDecodeError:
        row["problems"].append(f"its .{suffix} is not UTF-8")
    except (ValueError, RecursionError):
        row["problems"].append(f"its .{suffix} is not a JSON object")


def _parse_json(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _check_end(path: Path, file: IO[bytes], archive: tarfile.TarFile, member_name: str) -> None:
    """Raise ConfigError if the shard does not end with the block of zeros that ends a tar file."""
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ConfigError(
            f"{path}: damaged after {member_name} (no block of zeros follows, which ends a tar file)",
            "download or copy the complete shard again",
        )
