"""The state of a checkpoint's files, by which a later command recognises the same weights without loading them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from visionbench.config import ModelConfig
from visionbench.weights.location import find_checkpoint, has_files, local_folder

LARGEST_DIGESTED = 64 * 2**20
"""In bytes. A larger file is recognised by its size and its time of change, because a digest would take seconds."""
SUFFIXES = (".safetensors", ".bin", ".json", ".txt", ".model", ".jinja")
"""The suffixes of weights, configs and vocabularies."""


def describe_state(model: ModelConfig) -> dict[str, str]:
    """Return the identity of a model's weights before they are loaded.

    `random` for random weights, the commit of a Hub repository in the cache, or the digest of a local folder's files.
    `endpoint` for a model at an endpoint, whose changes are not known. Nothing if the checkpoint is missing.
    """
    if not has_files(model):
        return {"kind": "endpoint"}
    if model.weights == "random":
        return {"kind": "random"}
    folder = find_checkpoint(model)
    if folder is None:
        return {}
    if local_folder(model) is None:
        return {"kind": "hub", "revision": folder.name}
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in SUFFIXES)
    lines = [f"{path.name} {_file_state(path)}" for path in files]
    return {"kind": "folder", "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest()}


def _file_state(path: Path) -> str:
    status = path.stat()
    if status.st_size > LARGEST_DIGESTED:
        return f"{status.st_size} {status.st_mtime_ns}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
