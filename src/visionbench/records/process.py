"""The identity of a process, with which a later reader can check whether the process still exists.

A process id alone is not enough, because the system uses the number again.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
ENDED = ("Z", "X", "x")
"""The states of a process that has ended and whose exit status its parent has not read."""


@dataclass(frozen=True)
class ProcessIdentity:
    """A process: its number, its start time in clock ticks, and the boot and the namespace of the number."""

    pid: int
    started: int
    """The start time in clock ticks since the start of the system, from /proc/PID/stat."""
    boot: str
    """The id of the system's start, from /proc/sys/kernel/random/boot_id."""
    namespace: str | None = None
    """The namespace of process numbers. A container has its own."""


def current() -> ProcessIdentity | None:
    """Return the identity of this process, or None on a system without /proc."""
    stat, boot = _stat(os.getpid()), _boot()
    return ProcessIdentity(os.getpid(), stat[1], boot, _namespace()) if stat and boot else None


def has_ended(process: ProcessIdentity, host: str | None) -> bool:
    """Return whether a process of this host has ended. False if it runs, or if this machine cannot check it.

    This machine cannot check the processes of another host or of another container.
    """
    boot = _boot()
    if host != platform.node() or not boot:
        return False
    if process.boot != boot:
        return True
    if process.namespace != _namespace():
        return False
    stat = _stat(process.pid)
    return stat is None or stat[0] in ENDED or stat[1] != process.started


def _stat(pid: int) -> tuple[str, int] | None:
    """Return the state and the start time of a process, or None if it does not exist."""
    with suppress(OSError, ValueError, IndexError):
        fields = (PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    return None


def _boot() -> str:
    with suppress(OSError):
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return ""


def _namespace() -> str | None:
    with suppress(OSError):
        return os.readlink(PROC / "self/ns/pid")
    return None
