"""Download a file: an interrupted download is resumed, and the file is checked before it appears."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from visionbench.core import ConfigError

TIMEOUT_S = 30.0
CHUNK = 1 << 20
"""Bytes that are read at once."""

Report = Callable[[int, int | None], None]
"""Called with the number of downloaded bytes, and the size of the file if the server gives it."""


class Unreachable(ConfigError):
    """The server cannot be reached, or the connection was lost. Downloaded bytes are kept for the next attempt."""


def fetch(url: str, path: Path, md5: str | None = None, report: Report = lambda done, total: None) -> Path:
    """Download a file to `path` through `<name>.part` beside it, where a later attempt continues.

    Its MD5 is checked if one is given, or if the server's ETag is one. An existing file is kept unchanged. Raises
    Unreachable, and ConfigError if the server refuses the request or the file is damaged.
    """
    if path.exists():
        return path
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        etag = _download_rest(url, part, report)
    except HTTPError as error:
        raise ConfigError(f"{url}: the server answered {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        kept_bytes = f", {part.stat().st_size / 1e6:.1f} MB are kept" if part.exists() and part.stat().st_size else ""
        raise Unreachable(f"{url}: cannot be read ({reason}){kept_bytes}") from None
    if expected := md5 or etag:
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest != expected:
            part.unlink()
            raise ConfigError(
                f"{url}: damaged during the download (MD5 {digest}, not {expected})", "run the same command again"
            )
    part.replace(path)
    return path


def _download_rest(url: str, part: Path, report: Report) -> str | None:
    """Append the bytes that `part` does not have yet, and return the MD5 that the server gives, if any."""
    size = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={size}-"} if size else {})
    try:
        response: HTTPResponse = urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code != 416:  # the file is complete, or has become shorter
            raise
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range") or "")
        if total and int(total[1]) == size:
            return _parse_md5(error.headers.get("ETag"))
        part.unlink()
        return _download_rest(url, part, report)
    with response, part.open("ab") as file:
        if response.status != 206:
            file.truncate(0)
            size = 0
        length = response.headers.get("Content-Length")
        total_size = size + int(length) if length else None
        while chunk := response.read(CHUNK):
            file.write(chunk)
            size += len(chunk)
            report(size, total_size)
    if total_size is not None and size < total_size:
        raise ConnectionError(f"the connection was lost after {size:,} of {total_size:,} bytes")
    return _parse_md5(response.headers.get("ETag"))


def _parse_md5(etag: str | None) -> str | None:
    """Return the MD5 in an ETag. Storage servers use it for files that were uploaded in one part."""
    match = re.fullmatch(r'"?([0-9a-f]{32})"?', etag or "")
    return match[1] if match else None
