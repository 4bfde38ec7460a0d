"""The folder of converted parts. The name of an entry is a digest of everything that the conversion depends on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench.core import ConfigError

if TYPE_CHECKING:
    import torch


def folder() -> Path:
    """Return the folder: `$VISIONBENCH_CACHE`, or `visionbench` in the user's folder for caches."""
    if own := os.environ.get("VISIONBENCH_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visionbench"


def digest(graph: torch.nn.Module, facts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a part: its layers, the values of its weights, and these facts.

    Only the bytes of weights are read, so that equal weights of different checkpoints have the same digest.
    """
    import torch

    sha = hashlib.sha256(json.dumps([repr(graph), dict(facts)], sort_keys=True, default=str).encode())
    for name, tensor in graph.state_dict(keep_vars=False).items():
        flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(flat.numpy())
    return sha.hexdigest()


def entry(name: str, build: Callable[[Path], None]) -> tuple[Path, bool]:
    """Return the folder of an entry, and whether it was built now. `build` writes its files to an empty folder.

    The entry is built beside its place and renamed, so that an entry is always complete. Raises ConfigError if the
    folder cannot be written.
    """
    place = folder() / name
    if place.is_dir():
        return place, False
    try:
        folder().mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{name[:12]}-", dir=folder()))
    except OSError as error:
        raise ConfigError(
            f"{folder()}: {error.strerror or error}", "set VISIONBENCH_CACHE to a folder that can be written"
        ) from error
    try:
        build(draft)
        with suppress(OSError):  # another process has built the same entry meanwhile
            draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place, True


def size_bytes(place: Path) -> int:
    """Return the bytes of all files of an entry."""
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
