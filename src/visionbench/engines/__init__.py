"""Engines that execute the runs of a sweep in other processes: on this machine, with SLURM, or with Ray.

An engine receives all jobs of a sweep and yields the end of each job. A job that is killed, exits or exceeds its time
limit ends with a reason, and the other jobs continue. The launchers in `hydra_plugins` select an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol


@dataclass(frozen=True)
class Job:
    """A run that another process executes."""

    number: int
    """The position in the sweep, from 0."""
    name: str
    """The name of the run."""
    folder: Path
    """The folder of the run."""
    call: Callable[[str], int]
    """The function that measures the run and returns the exit code. Its argument describes the other runs at the same
    time. It can be pickled."""
    device: str | None = None
    """The device that only one job may use at a time, such as `cuda:1`; None for the CPU."""
    threads: int | None = None
    """The configured number of threads; None if torch chooses it."""


@dataclass(frozen=True)
class End:
    """The end of a job."""

    exit_code: int
    reason: str = ""
    """Why the job ended without returning its exit code, or an empty text."""


class Engine(Protocol):
    """A way to execute jobs."""

    outlives_command: ClassVar[bool]
    """Whether jobs may start after the command that submitted them has ended."""

    def check(self, threads: Sequence[int | None]) -> None:
        """Raise ConfigError if the engine cannot execute runs with these numbers of threads, before they are prepared.

        None means the default of torch.
        """

    def run(self, jobs: Sequence[Job], show: Callable[[str], None]) -> Iterator[tuple[Job, End]]:
        """Execute the jobs, and yield each job when it ends. `show` prints one line."""


__all__ = ["End", "Engine", "Job"]
