"""A digest of a data set that does not depend on its folder: names, labels, captions, questions and the bytes of its
images.

The digest of each file is cached by path, size and times of change, so that a folder is read only once.
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

from visionbench.core import Example, Question

CACHE = Path("data/cache/contents")
READERS = 4
"""Number of threads that read files."""
MISSING = "missing"


def digest_examples(examples: Sequence[Example], cache: Path = CACHE) -> str:
    """Return the SHA-256 of all examples, independent of their order.

    `data.exif` is included because it changes the frame of the masks. An image that cannot be read counts as missing.
    Questions are included if there are no captions. Otherwise the digests of `shapes`, whose questions follow from its
    captions, would differ from those of results that were stored before there were questions.
    """
    files = digest_files([example.image for example in examples], cache)
    rows = [
        [
            example.id,
            example.label,
            list(example.captions),
            files[example.image],
            *filter(None, [example.exif, [] if example.captions else _texts(example.questions)]),
        ]
        for example in examples
    ]
    lines = sorted(json.dumps(row) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _texts(questions: Sequence[Question]) -> list[list[str]]:
    """Return each question with its answers."""
    return [[question.text, *question.answers] for question in questions]


def digest_files(paths: Sequence[Path], cache: Path = CACHE) -> dict[Path, str]:
    """Return the digest of each file, from the cache if the file has not changed."""
    absolute = {path: os.path.abspath(path) for path in dict.fromkeys(paths)}
    cache_file = cache / f"{hashlib.sha256(os.fsencode(_common_folder(list(absolute.values())))).hexdigest()[:16]}.json"
    cached = _read_cache(cache_file)
    states = {path: _file_state(path) for path in absolute}
    unchanged = {
        path: cached[absolute[path]][1]
        for path, state in states.items()
        if state is not None and cached.get(absolute[path], [None])[0] == state
    }
    changed = [path for path, state in states.items() if state is not None and path not in unchanged]
    with ThreadPoolExecutor(READERS, "digest") as readers:
        computed = dict(zip(changed, readers.map(_digest_file, changed), strict=True))
    if changed:
        digests = {path: digest for path, digest in {**unchanged, **computed}.items() if digest != MISSING}
        entries = {absolute[path]: [states[path], digest] for path, digest in digests.items()}
        _write_cache(cache_file, {**cached, **entries})
    return {**dict.fromkeys(absolute, MISSING), **unchanged, **computed}


def _common_folder(paths: Sequence[str]) -> str:
    """Return the deepest folder that contains all files."""
    try:
        return os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # there is no file
        return ""


def _file_state(path: Path) -> list[int] | None:
    """Return the size of a file and its times of change (content and entry), or None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _digest_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return MISSING


def _read_cache(path: Path) -> dict[str, Any]:
    """Return the entries of an earlier run, or an empty dictionary if the cache file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: entry for name, entry in content.items() if isinstance(entry, list) and len(entry) == 2}


def _write_cache(path: Path, entries: dict[str, Any]) -> None:
    """Replace the cache file in one step. If the folder cannot be written, nothing is cached."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(entries), encoding="utf-8")
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
