"""The errors of visionbench."""

from __future__ import annotations


class TrackingError(Exception):
    """The tracking store cannot be reached or refused; results are safe in the run's folder."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
