"""Detect pauses of the process during stages whose calls are not timed one by one: load, pipeline, evaluation.

A thread wakes up ten times a second. The process was paused if the thread wakes up late although it did not wait for a
core, and in this time no other thread used CPU time or read from the disk. Timed windows have no such thread,
because it would disturb them; `windows.activity` and `validity` detect their pauses.

`benchmarks/heartbeat.py` measures the cost in a loop that decodes, resizes and convolves images: on two shared cores, a
reading prolonged the loop by 0.12 and 0.14 ms, which is 0.1 % (two measurements of 285 readings). It was 0.47 ms when
each reading read a file of /proc, because the thread then waits several times for the lock of the interpreter. The wait
for a core is therefore read only after late readings.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from threading import Event, Thread
from time import perf_counter
from types import TracebackType

from visionbench.machine import RunDelay, usable_cores

TICK_S = 0.1
LEAST_S = 0.5
"""The least length of a pause."""
READS_PER_S = 20_000
"""Blocks of 512 bytes per second. A process that reads at this rate or a higher one waits for the disk."""
MOST_UNREAD_S = 0.2
"""The lateness of readings after which the thread's wait for a core is read again."""
SHARE = 0.05
"""The share of a stage from which pauses matter."""


@dataclass(frozen=True)
class Beat:
    """A reading of the thread: the time, the CPU time of the process, and the thread's wait for a core."""

    clock_s: float
    cpu_s: float
    waited_s: float
    blocks: int
    unread_s: float = 0.0
    """The sum of the lateness of the readings since `waited_s` was read, which no wait since then can exceed."""

    @staticmethod
    def now(earlier: Beat | None = None) -> Beat:
        """Read the clocks and the counters. The wait is only read if it may have grown by MOST_UNREAD_S."""
        clock_s, cpu_s = perf_counter(), time.process_time()
        blocks = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
        if earlier is not None:
            unread_s = earlier.unread_s + max(0.0, clock_s - earlier.clock_s - TICK_S)
            if unread_s < MOST_UNREAD_S:
                return Beat(clock_s, cpu_s, earlier.waited_s, blocks, unread_s)
        return Beat(clock_s, cpu_s, RunDelay.now(this_thread_only=True).waited_s or 0.0, blocks)

    def paused_since(self, earlier: Beat) -> float:
        """Return the seconds of a pause between two readings, or 0 if the process ran, waited for a core or read."""
        late = self.clock_s - earlier.clock_s - TICK_S
        if late < LEAST_S or self.blocks - earlier.blocks > READS_PER_S * late:
            return 0.0
        before_pause = TICK_S * usable_cores()
        ran = max(0.0, self.cpu_s - earlier.cpu_s - before_pause)
        paused = late - ran - (self.waited_s - earlier.waited_s)
        return paused if paused >= LEAST_S else 0.0


class Heartbeat:
    """A context that measures for how long the process was paused in it, in `paused_s`."""

    def __init__(self) -> None:
        self.paused_s = 0.0
        self._over = Event()
        self._thread = Thread(target=self._watch, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._start = perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._seconds = perf_counter() - self._start

    def reason(self, stage: str) -> str | None:
        """Return that the process was paused in the stage, or None if it was not. Call it after the context."""
        if self.paused_s <= SHARE * self._seconds:
            return None
        return f"the process did not run for {min(self.paused_s, self._seconds):.3g} s of {stage}"

    def _watch(self) -> None:
        last, over = Beat.now(), False
        while not over:
            over = self._over.wait(TICK_S)
            now = Beat.now(last)
            self.paused_s += now.paused_since(last)
            last = now
