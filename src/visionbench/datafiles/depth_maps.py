"""Depth maps: PNG files of 16 bits with a scale, and NumPy files in metres."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from visionbench.datafiles.images import PictureError, read_numbers, read_stored

MODES = ("I;16", "I;16B", "I")
"""Pillow's modes of one channel with more than eight bits."""
NUMPY = ".npy"
PNG = ".png"


def find_problem(path: Path, name: str) -> tuple[tuple[int, int] | None, str | None]:
    """Return height and width of a depth map, and its problem, as far as the header of the file shows them.

    `name` is the name of the file in the problem.
    """
    if not path.is_file():
        return None, f"its depth map {name} is missing"
    try:
        if path.suffix == NUMPY:
            return _check_array(path, name)
        mode, size = read_stored(path)
    except PictureError as error:
        return None, f"its depth map {name}: {error.reason}"
    if mode not in MODES:
        return size, f"its depth map {name} has the mode {mode}: it must have one channel of 16 bits"
    return size, None


def read_depth(path: Path, name: str, scale: float | None) -> np.ndarray:
    """Return the depth of each pixel in metres, float32 [H, W], NaN if it was not measured. Raises PictureError.

    In a PNG file, the depth is the number divided by `scale`, and 0 means not measured. In a NumPy file it is the
    number, and 0 and NaN mean not measured. `name` is the name of the file in messages.
    """
    try:
        if path.suffix == NUMPY:
            depth = _load(path).astype(np.float32)
        else:
            depth = (read_numbers(path) / np.float64(scale or 1)).astype(np.float32)
        return check(depth)
    except PictureError as error:
        raise PictureError(path, f"its depth map {name}: {error.reason}") from error
    except (OSError, ValueError) as error:
        raise PictureError(path, f"its depth map {name} {error}") from error


def check(depth: np.ndarray) -> np.ndarray:
    """Return a depth map with NaN for pixels that were not measured.

    Raises ValueError for a depth that is negative or infinite, and if no pixel was measured.
    """
    if wrong := int(((depth < 0) | np.isinf(depth)).sum()):
        raise ValueError(f"has {wrong} pixels with a negative or infinite depth")
    measured = np.isfinite(depth) & (depth > 0)
    if not measured.any():
        raise ValueError("has no pixel with a depth: all are 0 or NaN")
    checked: np.ndarray = np.where(measured, depth, np.float32(np.nan))
    return checked


def _check_array(path: Path, name: str) -> tuple[tuple[int, int] | None, str | None]:
    try:
        array = _load(path)
    except (OSError, ValueError) as error:
        return None, f"its depth map {name} {error}"
    if array.ndim != 2 or array.dtype.kind != "f":
        return None, (
            f"its depth map {name} is an array {list(array.shape)} of {array.dtype}: it must have two axes and "
            "floating-point numbers in metres"
        )
    return (array.shape[0], array.shape[1]), None


def _load(path: Path) -> np.ndarray:
    """Return an array that is read when it is used. Raises ValueError or OSError."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except EOFError as error:
        raise ValueError("cannot be read (it is empty)") from error
    except ValueError as error:
        raise ValueError(f"cannot be read ({str(error).splitlines()[0]})") from error
    return array
