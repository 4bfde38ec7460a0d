"""Standard output and standard error that cannot end a command: a failed write does not stop a measurement."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import IO, Any

REPLACEMENTS = {
    "·": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "×": "x",
    "±": "+-",
    "→": "->",
    "µ": "u",
    "≤": "<=",
    "≥": ">=",
}
"""Texts for characters that an encoding such as ASCII lacks. A `?` would read as the mark of a questionable case."""
REPLACE = "visionbench.replace"


class LenientStream(io.RawIOBase):
    """A binary stream that drops its output after an error, such as a closed pipe or a full disk."""

    def __init__(self, target: IO[bytes]) -> None:
        self.target = target
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor of the target."""
        return self.target.fileno()

    def isatty(self) -> bool:
        """Return whether the target is a terminal."""
        return self.target.isatty()

    def write(self, data: Any) -> int:
        """Write and flush the data, or drop it if an earlier write failed."""
        if self.error is None:
            try:
                self.target.write(data)
                self.target.flush()
            except OSError as error:
                self.error = error
                _redirect_to_null(self.target)
        return len(data)


def protect() -> None:
    """Replace the standard streams of this process by lenient ones that can print every character."""
    codecs.register_error(REPLACE, _replace)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell, as with `>&-`
            _open_null(number)
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            lenient = io.BufferedWriter(LenientStream(stream.buffer))
            setattr(sys, name, io.TextIOWrapper(lenient, stream.encoding, REPLACE, line_buffering=True))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=REPLACE)


def lost_output() -> str | None:
    """Return why standard output was lost, or None. A closed pipe, as of `| head`, is no loss."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return None
    sys.stdout.flush()
    raw = getattr(sys.stdout.buffer, "raw", None)
    if isinstance(raw, LenientStream) and raw.error is not None and raw.error.errno != errno.EPIPE:
        return raw.error.strerror
    return None


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII text for the characters that an encoding lacks, as an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(REPLACEMENTS.get(character, "?") for character in missing), error.end


def _open_null(number: int) -> None:
    """Open the null device as this file descriptor, in child processes too, so that no other file gets it."""
    null = os.open(os.devnull, os.O_WRONLY)
    if null == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(null, number)
        os.close(null)


def _redirect_to_null(target: IO[bytes]) -> None:
    """Connect the descriptor of a failed stream to the null device, so that its buffer can be flushed at the end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, target.fileno())
    os.close(null)
