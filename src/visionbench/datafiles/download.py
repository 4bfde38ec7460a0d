"""A file from the network: resumed where an earlier try broke off, checked, and whole or not there at all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from visionbench.registry import ConfigError

TIMEOUT_S = 30.0
PIECE = 1 << 20

Tell = Callable[[int, int | None], None]
"""Called with the bytes that are there and, where the server says so, the bytes in all."""


class Unreachable(ConfigError):
    """The server cannot be reached, or the connection broke off; what came so far is kept for the next try."""


def fetch(url: str, path: Path, md5: str | None = None, tell: Tell = lambda done, total: None) -> Path:
    """Bring a file to `path`, by way of `<name>.part` beside it, where a later try goes on.

    Its MD5 is checked, where one is given or the server's ETag is one. A file that is at `path` already is left as it
    is. Raises Unreachable, and ConfigError where the server refuses or the file comes damaged.
    """
    if path.exists():
        return path
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        etag = _append(url, part, tell)
    except HTTPError as error:
        raise ConfigError(f"{url}: the server says {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        kept = f", {part.stat().st_size / 1e6:.1f} MB are kept" if part.exists() and part.stat().st_size else ""
        raise Unreachable(f"{url}: cannot be read ({reason}){kept}") from None
    if expected := md5 or etag:
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != expected:
            part.unlink()
            raise ConfigError(f"{url}: damaged on its way (MD5 {found}, not {expected})", "run the same command again")
    part.replace(path)
    return path


def _append(url: str, part: Path, tell: Tell) -> str | None:
    """Bring what `part` still lacks; the MD5 that the server names, where it does."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer: HTTPResponse = urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code != 416:  # nothing is left to bring, or the file has become shorter
            raise
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range") or "")
        if total and int(total[1]) == have:
            return _md5(error.headers.get("ETag"))
        part.unlink()
        return _append(url, part, tell)
    with answer, part.open("ab") as file:
        if answer.status != 206:
            file.truncate(0)
            have = 0
        length = answer.headers.get("Content-Length")
        total_bytes = have + int(length) if length else None
        while piece := answer.read(PIECE):
            file.write(piece)
            have += len(piece)
            tell(have, total_bytes)
    if total_bytes is not None and have < total_bytes:
        raise ConnectionError(f"broke off after {have:,} of {total_bytes:,} bytes")
    return _md5(answer.headers.get("ETag"))


def _md5(etag: str | None) -> str | None:
    """Storage servers name a file that came in one part by its MD5."""
    found = re.fullmatch(r'"?([0-9a-f]{32})"?', etag or "")
    return found[1] if found else None
