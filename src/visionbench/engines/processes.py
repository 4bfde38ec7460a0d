"""Execute jobs in processes of this machine, several at a time. Jobs never share a GPU or a core.

Each process is pinned to its own cores before it imports torch, so that all its threads and its measuring process stay
on them. A job waits while its GPU is in use or too few cores are free.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import monotonic
from typing import ClassVar

from visionbench.core import ConfigError, first_line
from visionbench.engines import End, Job
from visionbench.engines.cores import Core, Cores, affinity
from visionbench.signals import end_with_parent, kill_reason

SECONDS_TO_END = 60.0
"""The time that an interrupted job has to write its rows."""
FAILED = 1
INTERRUPTED = 130
_context = multiprocessing.get_context("spawn")


@dataclass
class Processes:
    """Processes of this machine: one at a time, or as many as there are GPUs and cores."""

    outlives_command: ClassVar[bool] = False

    parallel: bool = False
    timeout_min: float | None = None
    """The time limit of a job in minutes."""
    cores: Cores = field(default_factory=Cores.of_this_process)

    def check(self, threads: Sequence[int | None]) -> None:
        """Raise ConfigError if a run has more threads than this machine has cores."""
        for count in threads if self.parallel else ():
            if count is not None and count > len(self.cores.all):
                raise ConfigError(
                    f"device.threads={count}: runs at the same time have separate cores, and this process may "
                    f"use {len(self.cores.all)} cores",
                    "give fewer threads, or remove hydra.launcher.parallel and hydra.launcher.gpus",
                )

    def run(self, jobs: Sequence[Job], show: Callable[[str], None]) -> Iterator[tuple[Job, End]]:
        """Execute the jobs and yield each job when it ends. `show` prints one line.

        After Ctrl-C each running job is interrupted once, so that it writes its rows.
        """
        waiting, running = list(jobs), list[Running]()
        try:
            while waiting or running:
                for job in self._startable(waiting, running):
                    waiting.remove(job)
                    running.append(self._start(job, jobs, show))
                wait([source for each in running for source in each.sources], self._seconds_left(running))
                for each in list(running):
                    each.show_output()
                    if self._is_late(each):
                        each.process.kill()
                        each.reason = f"the time limit of {self.timeout_min:g} min was exceeded"
                    if not each.process.is_alive():
                        running.remove(each)
                        self.cores.give_back(each.cores)
                        yield each.job, each.end()
        except KeyboardInterrupt:
            _interrupt(running)
            raise
        finally:
            for each in running:
                each.process.kill()
                each.end()

    def _startable(self, waiting: Sequence[Job], running: Sequence[Running]) -> list[Job]:
        """Return the jobs that can start now, in order. A job without enough cores keeps later jobs from starting."""
        if not self.parallel:
            return list(waiting[: 1 - len(running)])
        used, free = {each.job.device for each in running} - {None}, len(self.cores.free)
        startable = []
        for job in waiting:
            if job.device in used:
                continue
            if (count := self.cores_of(job, [*waiting, *(each.job for each in running)])) > free:
                break
            startable.append(job)
            free -= count
            used |= {job.device} - {None}
        return startable

    def cores_of(self, job: Job, jobs: Sequence[Job]) -> int:
        """Return the number of cores of a job: its threads, or an equal share for each GPU, or all cores."""
        if job.threads is not None:
            return job.threads
        gpus = {other.device for other in jobs} - {None}
        return max(1, len(self.cores.all) // len(gpus)) if job.device is not None else len(self.cores.all)

    def beside(self, job: Job, jobs: Sequence[Job]) -> str:
        """Return a text that states how many other jobs may run at the same time, or an empty text for none."""
        if not self.parallel:
            return ""
        free = len(self.cores.all) - self.cores_of(job, jobs)
        used, count = {job.device} - {None}, 0
        for other in sorted(jobs, key=lambda other: self.cores_of(other, jobs)):
            if other is not job and other.device not in used and self.cores_of(other, jobs) <= free:
                free -= self.cores_of(other, jobs)
                used |= {other.device} - {None}
                count += 1
        runs = "1 other run" if count == 1 else f"{count} other runs"
        return f"up to {runs} of the sweep at the same time, on other cores of this machine" if count else ""

    def _start(self, job: Job, jobs: Sequence[Job], show: Callable[[str], None]) -> Running:
        cores = (self.cores.take(self.cores_of(job, jobs)) or ()) if self.parallel else ()
        prefix = f"[{jobs.index(job) + 1}/{len(jobs)}] " if len(jobs) > 1 else ""
        beside = self.beside(job, jobs)
        return Running.start(job, cores, beside, lambda line: show(prefix + line))

    def _seconds_left(self, running: Sequence[Running]) -> float | None:
        """Return the seconds until the first time limit."""
        if self.timeout_min is None or not running:
            return None
        return max(0.0, min(each.began for each in running) + 60 * self.timeout_min - monotonic())

    def _is_late(self, each: Running) -> bool:
        return self.timeout_min is not None and monotonic() - each.began >= 60 * self.timeout_min


@dataclass
class Running:
    """A job and its process."""

    job: Job
    process: SpawnProcess
    answer: Connection
    """Receives the end of the job."""
    output: Connection
    """Receives both output streams of the process."""
    cores: tuple[Core, ...]
    show: Callable[[str], None]
    began: float = field(default_factory=monotonic)
    reason: str = ""
    """Why the process was ended."""
    _text: bytes = b""
    _ended: bool = False

    @classmethod
    def start(cls, job: Job, cores: tuple[Core, ...], beside: str, show: Callable[[str], None]) -> Running:
        """Start the process of a job on these cores."""
        answer, child_answer = _context.Pipe(duplex=False)
        output, child_output = _context.Pipe(duplex=False)
        process = _context.Process(target=_work, args=(child_answer, child_output, affinity(cores), job.call, beside))
        process.start()
        child_answer.close()
        child_output.close()
        return cls(job, process, answer, output, cores, show)

    @property
    def sources(self) -> list[Connection | int]:
        """What `wait` observes: the end of the process, and its output."""
        return [self.process.sentinel, *([] if self._ended else [self.output])]

    def show_output(self) -> None:
        """Print the complete lines that the process has written since the last call."""
        while not self._ended and self.output.poll():
            data = os.read(self.output.fileno(), 2**16)
            self._ended = not data
            *lines, self._text = (self._text + data).split(b"\n")
            for line in lines:
                if text := line.decode("utf-8", "replace").rstrip():
                    self.show(text)

    def end(self) -> End:
        """Return the end of the job, after its process has ended."""
        self.process.join()
        self.show_output()
        end = End(FAILED, self.reason or _explain(self.process.exitcode))
        with suppress(EOFError, OSError):
            if not self.reason and self.answer.poll():
                end = self.answer.recv()
        self.answer.close()
        self.output.close()
        return end


def supervise(call: Callable[[str], int], beside: str, timeout_min: float | None = None) -> End:
    """Execute one job in a new process and return its end, also if the process is killed or exceeds the time limit."""
    job = Job(0, "", Path(), partial(_described, call, beside))
    ((_, end),) = Processes(timeout_min=timeout_min).run([job], partial(print, flush=True))
    return end


def _described(call: Callable[[str], int], beside: str, _: str) -> int:
    return call(beside)


def _interrupt(running: Sequence[Running]) -> None:
    """Interrupt each job once, and wait until it has written its rows."""
    for each in running:
        with suppress(ProcessLookupError):
            os.kill(each.process.pid or 0, signal.SIGINT)
    deadline = monotonic() + SECONDS_TO_END
    for each in running:
        while each.process.is_alive() and monotonic() < deadline:
            wait(each.sources, deadline - monotonic())
            each.show_output()


def _work(answer: Connection, output: Connection, cpus: set[int], call: Callable[[str], int], beside: str) -> None:
    """Execute a job in the new process. Its output goes to the parent."""
    os.setpgrp()  # Ctrl-C reaches the parent only, which interrupts this process once
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=end_with_parent, daemon=True).start()
    if cpus:
        os.sched_setaffinity(0, cpus)
    for number in (1, 2):
        os.dup2(output.fileno(), number)
    output.close()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        answer.send(End(call(beside)))
    except KeyboardInterrupt:
        answer.send(End(INTERRUPTED))
    except Exception as error:
        traceback.print_exc()
        answer.send(End(FAILED, f"{type(error).__name__}: {first_line(error)}"))


def _explain(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return kill_reason("the process of the run", exitcode)
    return f"the process of the run ended by itself with exit code {exitcode}"
