"""What a data set is, whatever folder it lies in: a digest of names, labels, captions and the contents of pictures.

The digest of a file is kept, by its path, size and times of change, so that a folder is read once.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from visionbench.core import Example

CACHE = Path("data/cache/contents")
READERS = 4
"""Threads that read files at once."""
MISSING = "missing"


def sha256(examples: Sequence[Example], cache: Path = CACHE) -> str:
    """The digest of all examples, whatever their order; `data.exif` is part of it, since it changes the masks' frame.

    A picture that cannot be read counts as missing.
    """
    files = _digests([example.image for example in examples], cache)
    rows = [
        [example.id, example.label, list(example.captions), files[example.image], *filter(None, [example.exif])]
        for example in examples
    ]
    lines = sorted(json.dumps(row) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _digests(paths: Sequence[Path], cache: Path) -> dict[Path, str]:
    """The digest of each file: from the cache where the file is as it was, else read."""
    whole = {path: os.path.abspath(path) for path in dict.fromkeys(paths)}
    place = cache / f"{hashlib.sha256(os.fsencode(_shared(list(whole.values())))).hexdigest()[:16]}.json"
    known = _read(place)
    now = {path: _state(path) for path in whole}
    kept = {
        path: known[whole[path]][1]
        for path, state in now.items()
        if state is not None and known.get(whole[path], [None])[0] == state
    }
    changed = [path for path, state in now.items() if state is not None and path not in kept]
    with ThreadPoolExecutor(READERS, "digest") as readers:
        read = dict(zip(changed, readers.map(_digest, changed), strict=True))
    if changed:
        found = {whole[path]: [now[path], digest] for path, digest in {**kept, **read}.items() if digest != MISSING}
        _write(place, {**known, **found})
    return {**dict.fromkeys(whole, MISSING), **kept, **read}


def _shared(paths: Sequence[str]) -> str:
    """The deepest folder that holds all files."""
    try:
        return os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # there is no file
        return ""


def _state(path: Path) -> list[int] | None:
    """Size, and the times at which contents and entry changed; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return MISSING


def _read(place: Path) -> dict[str, Any]:
    """What an earlier run kept; nothing where there is none, or it cannot be read."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {path: entry for path, entry in found.items() if isinstance(entry, list) and len(entry) == 2}


def _write(place: Path, found: dict[str, Any]) -> None:
    """Keep digests for the next run, whole or not at all; a folder that cannot be written keeps nothing."""
    draft = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(found), encoding="utf-8")
        draft.replace(place)
    except OSError:
        with suppress(OSError):
            draft.unlink()
